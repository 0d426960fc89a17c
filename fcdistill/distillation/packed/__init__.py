"""Prefix-tree packing, and the exact forward pass of packed rows."""
