"""Lights Out, a plug-in for pir."""
