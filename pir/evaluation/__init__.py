"""Evaluation: the ledger on held-out puzzles, and what would have happened otherwise."""
