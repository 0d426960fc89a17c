"""A model that runs here."""
