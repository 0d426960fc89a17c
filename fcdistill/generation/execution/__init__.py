"""Calls carried out by the user's own function, in a process of its own."""
