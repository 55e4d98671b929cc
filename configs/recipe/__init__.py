"""Choices of the group `recipe`; the first line of each file says what it is."""
