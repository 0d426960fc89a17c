"""Losses: pure functions of aligned rows."""
