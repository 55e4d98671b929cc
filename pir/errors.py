"""The errors that a user can mend; the command line prints them without a traceback."""


def installs(extra: str) -> str:
    """Returns the command that installs an extra beside this package, from any folder."""
    return f"pip install 'policy-improvement-reasoners[{extra}]'"


class UserError(Exception):
    """A mistake in a setting, a file or a puzzle; the message names it and says what is allowed.

    A subclass with arguments of its own hands all of them to `super().__init__` and gives
    `__str__`: where another process raised an error, pickle builds it anew from these arguments.
    """


class MissingExtraError(UserError):
    """A part whose packages are not installed; the message says how to install them.

    Args:
        part: the setting, command or folder that asks for it.
        extra: the name of the extra in `pyproject.toml` that brings them.
    """

    def __init__(self, part: str, extra: str) -> None:
        """Keeps both."""
        super().__init__(part, extra)
        self.part, self.extra = part, extra

    def __str__(self) -> str:
        """Names both."""
        return f"{self.part} needs an extra: {installs(self.extra)}"


class UnknownSettingError(UserError, TypeError):
    """A keyword that an environment does not have.

    It is a `TypeError` too, and names the keyword as Python does: libraries that try keywords of
    other environments, such as `frameskip`, go on without it then.
    """


class PuzzleTextError(UserError):
    """Text that is no puzzle or answer of the kind asked for.

    Attributes:
        reason: what is wrong, without the place.
        column: position of the mistake in the text, counted from 1.
    """

    def __init__(self, reason: str, column: int) -> None:
        """Keeps reason and column."""
        super().__init__(reason, column)
        self.reason, self.column = reason, column

    def __str__(self) -> str:
        """Returns the reason, and the column behind it."""
        return f"{self.reason} (column {self.column})"


class NonFiniteLossError(UserError):
    """The loss became infinite or not a number; the last good checkpoint is kept."""
