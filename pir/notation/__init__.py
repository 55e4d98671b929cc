"""How puzzles are written and drawn: the signs of boards, and pictures.

`cell_text.CellText` and `picture.Picture` are what a puzzle describes itself by.
"""
