"""Choices of the setting `trainer.lanes`; the first line of each file says what it is."""
