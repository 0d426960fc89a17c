"""Turn results into tables and files that people read."""
