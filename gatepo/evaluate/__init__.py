"""Accuracy of a model on benchmarks, with its uncertainty: ``python -m gatepo.evaluate``, and during training."""
