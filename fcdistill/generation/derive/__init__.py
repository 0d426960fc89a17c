"""More traces, made of those that passed, without a teacher."""
