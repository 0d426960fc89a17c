"""`fcdistill eval`: read suites, score predictions, summarise with intervals."""
