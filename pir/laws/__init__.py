"""The laws that every puzzle keeps, and a second device on which they are checked without hardware.

`checks.law_results` judges a puzzle; `pir check-env` and the tests call it.
"""
