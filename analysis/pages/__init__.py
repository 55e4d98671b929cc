"""Reports, and comparisons and tables as text."""
