"""Evaluation: the ledger of rollouts on held-out puzzles, and of variants of their steps."""
