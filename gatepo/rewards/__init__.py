"""The reward of eq. 9 and what it is made of."""
