"""Tool calls as text: where they stand in what a model wrote, reading, writing, and when two are the same."""
