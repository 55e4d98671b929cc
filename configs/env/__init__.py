"""Choices of the group `env`; the first line of each file says what it is."""
