"""What is to be generated, decided before any model is asked."""
