"""Choices of the group `objective/targets`; the first line of each file says what it is."""
