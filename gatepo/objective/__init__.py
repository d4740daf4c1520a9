"""Pure math on tensors: what a method is. Imports torch and nothing of gatepo outside this package."""
