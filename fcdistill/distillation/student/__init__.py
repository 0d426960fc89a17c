"""What is added to a student's layers: LoRA, and projectors of hidden states."""
