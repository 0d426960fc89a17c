"""English: how requests are worded, and how values are said. Another language replaces this folder first."""
