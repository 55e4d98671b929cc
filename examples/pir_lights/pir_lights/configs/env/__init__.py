"""Settings of the plug-in."""
