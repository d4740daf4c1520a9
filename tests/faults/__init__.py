"""Runs that are killed, cut off and damaged, and whether they go on to the bit: ``python -m tests.faults``."""
