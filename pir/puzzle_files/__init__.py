"""Files of puzzles, as people hold them: one reader for all commands and puzzles.

`given.FilePuzzle` is a puzzle whose instances come from a file; `reader` reads all forms.
"""
