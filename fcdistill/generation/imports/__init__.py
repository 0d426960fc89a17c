"""Conversations that were recorded elsewhere become traces."""
