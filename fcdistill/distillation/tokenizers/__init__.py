"""What the tokens of two tokenizers write, and which of them cover the same text."""
