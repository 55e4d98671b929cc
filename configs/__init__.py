"""Hydra settings: one file per command, one folder per group of choices."""
