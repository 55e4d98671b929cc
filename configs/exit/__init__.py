"""Choices of the group `exit`; the first line of each file says what it is."""
