"""Choices of the group `trainer`; the first line of each file says what it is."""
