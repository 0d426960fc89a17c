"""How much memory a training takes, worked out before any weights are there."""
