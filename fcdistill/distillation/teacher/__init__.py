"""The teacher before a training: its signals cached, its answers held against the verified ones."""
