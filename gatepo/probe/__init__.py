"""What each gate would have done with the very same tokens: ``python -m gatepo.probe``."""
