"""Choices of the group `experiment`; the first line of each file says what it is."""
