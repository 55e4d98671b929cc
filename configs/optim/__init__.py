"""Choices of the group `optim`; the first line of each file says what it is."""
