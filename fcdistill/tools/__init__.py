"""A team's tools: catalogues in, what their schemas declare, verdicts on schemas and calls."""
