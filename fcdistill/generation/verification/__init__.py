"""Which requests and calls may be kept, each with a reason that a person can act on."""
