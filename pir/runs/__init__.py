"""The run folder: its files, locks, checkpoints, inputs and loggers, for writers and readers alike.

`folder.RunFolder` names every file; `checkpoint` reads and writes the weights.
"""
