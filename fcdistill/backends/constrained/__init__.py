"""Answers that obey a grammar of the tools' schemas."""
