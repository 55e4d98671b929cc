"""What a person sees of work that takes long: a live view in a terminal, plain lines elsewhere."""

import math
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pir.system import work
from pir.system.stopwatch import Stopwatch
from pir.system.terminal import Screen, printable


class _ProgressConsole(Console):
    """Where progress is told; work goes on if nobody reads it any more."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Tells no more, where rich would end the process."""
        self.quiet = True


class View:
    """A few lines that are kept up to date in a terminal, and single lines now and then elsewhere.

    It hears of the work done inside it (`pir.system.work`).

    Args:
        title: what is done.
        console: where to write; standard error by default.
        transient: whether the lines vanish from the terminal at the end.
        unnamed: what work is called that is in no named part.
    """

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        *,
        transient: bool = True,
        unnamed: str = "starting",
    ) -> None:
        """Chooses between live view and plain lines by whether the console is a terminal."""
        self.console = console or _ProgressConsole()
        self.title, self.transient, self.unnamed = printable(title), transient, unnamed
        self.live: Live | None = None
        self.watch, self.shown_at = Stopwatch(), float("-inf")
        self.listening = ExitStack()
        self.part, self.part_since = "", 0.0
        self.share: float | None = None

    def __enter__(self) -> Self:
        """Starts the live view in a terminal."""
        self.listening.enter_context(work.told_to(self.hear))
        if self.console.is_terminal and not Screen.shared:
            self.live = Live(
                get_renderable=self.render,
                console=self.console,
                refresh_per_second=4,
                transient=self.transient,
                redirect_stdout=False,
            )
            self.live._live_render = Reflowing(self.render())  # Live has no other way
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last view on the screen, or nothing."""
        self.listening.close()
        self.part, self.share = "", 0.0
        if self.live:
            self.live.stop()
            self.live = None

    def hear(self, parts: Sequence[str], share: float | None) -> None:
        """Takes the part of the work that is under way, and how much of it is done."""
        name = ", ".join(parts) or self.unnamed
        if name != self.part:
            self.part, self.part_since = name, self.watch.seconds()
        self.share = share
        if not self.live and self.due():
            done = f", {100 * share:.0f} % done" if share else ""
            self.line(f"{self.title}: {name}{done}  {clock(self.watch.seconds())}")

    def due(self) -> bool:
        """Says whether it is time for the next update: often when live, seldom in plain lines."""
        now = self.watch.seconds()
        due = now - self.shown_at >= (0.5 if self.live else 10.0)
        if due:
            self.shown_at = now
        return due

    def line(self, text: str) -> None:
        """Writes a plain line, if anybody can still read it; see `say`."""
        with suppress(OSError):
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def working(self) -> Table:
        """Returns a line about the part of the work that is under way."""
        seconds = self.watch.seconds() - self.part_since
        return row(bar(self.share), f"{clock(seconds)}  {self.part or self.unnamed}")

    def render(self) -> Group:
        """Returns what the terminal shows."""
        return Group(one_row(self.title), self.working())


class Reflowing(LiveRender):
    """Finds its first line again after the terminal changed its width and broke lines anew."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Keeps the lengths of the lines."""
        lines = console.render_lines(self.renderable, options, pad=False)
        self.lengths = [sum(segment.cell_length for segment in line) for line in lines]
        self.console = console
        yield from super().__rich_console__(console, options)

    def position_cursor(self) -> Control:
        """Goes up as many rows as the lines take now."""
        if self._shape is not None:
            width = self.console.width
            self._shape = (width, sum(max(1, math.ceil(length / width)) for length in self.lengths))
        return super().position_cursor()

    def restore_cursor(self) -> Control:
        """As `position_cursor`, at the end."""
        self.position_cursor()
        return super().restore_cursor()


def one_row(text: str) -> Text:
    """Returns text that is cut off where the terminal ends."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def bar(share: float | None) -> ProgressBar:
    """Returns a bar of fixed width; a moving one where the share is not known."""
    total = None if share is None else 1.0
    return ProgressBar(total=total, completed=share or 0.0, width=32)


def row(*cells: ProgressBar | str) -> Table:
    """Returns bars and texts beside one another."""
    table = Table.grid(padding=(0, 2))
    table.add_row(*(one_row(cell) if isinstance(cell, str) else cell for cell in cells))
    return table


def clock(seconds: float) -> str:
    """Returns a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
