"""Choices of the group `logger`; the first line of each file says what it is."""
