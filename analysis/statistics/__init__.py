"""Comparisons, tables and tests over runs."""
