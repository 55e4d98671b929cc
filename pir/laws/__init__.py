"""The laws that every puzzle keeps, and a second device on which they are checked without hardware.

`checks.rulings` judges a puzzle; `pir check-env` and the tests call it.
"""
