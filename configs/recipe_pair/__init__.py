"""Choices of the group `recipe_pair`, named ENV_MODEL; the first line of each says what it is."""
