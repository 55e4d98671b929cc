"""Choices of the group `recipe_objective`, named ENV_OBJECTIVE; the first line says what it is."""
