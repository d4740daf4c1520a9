"""Timings against other tools and against the bare floor; `make bench`."""
