"""From traces to the tensors of a micro batch."""
