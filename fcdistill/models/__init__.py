"""From a model reference to a model and its tokenizer; students, and the form in which they are saved.

How prompts are rendered is not known here.
"""
