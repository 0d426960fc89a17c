"""What the teacher is asked, and what is made of its answers."""
