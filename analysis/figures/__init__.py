"""Figures of runs; `kinds` lists them all."""
