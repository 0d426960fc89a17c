"""`fcdistill generate`: plan, synthesize, verify and deduplicate tool-call traces."""
