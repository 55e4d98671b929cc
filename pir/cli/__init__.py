"""The command line: `main.main` finds the command, `words` prepares its settings, `commands` run.

Nothing but the entry point imports from here.
"""
