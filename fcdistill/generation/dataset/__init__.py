"""What only all traces together show: duplicates, contamination, coverage, agreement."""
