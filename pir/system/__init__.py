"""The machine: devices, memory, signals, the terminal, files that others may have written.

Nothing here knows of puzzles or networks.
"""
