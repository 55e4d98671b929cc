"""Choices of the group `objective`; the first line of each file says what it is."""
