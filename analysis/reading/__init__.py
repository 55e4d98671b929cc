"""Run folders, read and typed; nothing here draws or computes."""
