"""A generation on disk: outcomes, rounds, shards."""
