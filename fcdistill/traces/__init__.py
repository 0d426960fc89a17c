"""Traces that exist: recorded conversations read, traces split and exported. How traces are made is `generation`."""
