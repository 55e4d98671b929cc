"""Choices of the group `model`; the first line of each file says what it is."""
