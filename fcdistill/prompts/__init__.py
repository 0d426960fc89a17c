"""Conversations and tools to token ids: the only renderer, for training, evaluation and serving."""
