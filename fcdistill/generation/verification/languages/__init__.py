"""What verification knows of any language, what it asks of each, and what stands where a language is not known."""
