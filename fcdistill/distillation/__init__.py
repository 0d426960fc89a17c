"""`fcdistill train`: pack traces, compute the objective, train the student."""
