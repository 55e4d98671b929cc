"""What a person sees while a run trains: a live view in a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from pir.system.terminal import printable

BARS = " ▁▂▃▄▅▆▇█"


class ProgressView:
    """Progress towards the nearest budget, and how much each improvement step solves.

    Args:
        title: what is trained.
        console: where to write; standard error by default.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        """Chooses between live view and plain lines by whether the console is a terminal."""
        self.console = console or Console(stderr=True)
        self.live: Live | None = None
        self.watch, self.shown_at = Stopwatch(), float("-inf")
        self.rate = RateMeter()
        self.status, self.solved, self.validation = Text(""), Text(""), Text("")
        self.progress = Progress(
            TextColumn("{task.fields[title]}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}"),
            console=self.console,
        )
        self.task = self.progress.add_task("starting", total=1.0, title=printable(title))

    def __enter__(self) -> "ProgressView":
        """Starts the live view in a terminal."""
        if self.console.is_terminal:
            self.live = Live(self._render(), console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last view on the screen."""
        if self.live:
            self.live.update(self._render())
            self.live.stop()
            self.live = None

    def due(self) -> bool:
        """Says whether it is time for the next update: often when live, seldom in plain lines."""
        now = self.watch.seconds()
        due = now - self.shown_at >= (0.5 if self.live else 10.0)
        if due:
            self.shown_at = now
        return due

    def update(
        self,
        *,
        share_done: float,
        optimizer_step: int,
        seconds: float,
        loss: float,
        solved: Sequence[float],
    ) -> None:
        """Shows the state of training.

        Args:
            share_done: of the nearest budget; 1 or more is done.
            optimizer_step: updates so far.
            seconds: training time so far, over all resumes.
            loss: mean over the last interval.
            solved: share of training puzzles solved after each improvement step.
        """
        rate, share_done = self.rate.read(optimizer_step), min(1.0, share_done)
        left = seconds * (1 - share_done) / share_done if share_done > 0 else 0.0
        self.progress.update(
            self.task,
            completed=share_done,
            description=f"{clock(seconds)} · {clock(left)} left · {rate:.1f} steps/s",
        )
        self.status = Text(f"step {optimizer_step:>6}  loss {loss:.3f}")
        self.solved = Text(f"training   solved by step  {bar_row(solved)}")
        if self.live:
            self.live.update(self._render())
        else:
            self._line(
                f"step {optimizer_step:>6}  {100 * share_done:3.0f} %  {clock(seconds)}  "
                f"{rate:5.1f} steps/s  loss {loss:.3f}  solved {bar_row(solved)}"
            )

    def validated(self, solved: Sequence[float], best: float, improved: bool) -> None:
        """Shows a validation result: solved after each step, and the best so far."""
        mark = "  new best" if improved else ""
        self.validation = Text(
            f"validation solved by step  {bar_row(solved)}   best so far {100 * best:.1f} %{mark}"
        )
        if self.live:
            self.live.update(self._render())
        else:
            self._line(self.validation.plain)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        return Group(self.progress, self.status, self.solved, self.validation)


def bar_row(shares: Sequence[float]) -> str:
    """Returns shares in [0, 1] as one bar character each, and the last as a percentage."""
    if not shares:
        return ""
    bars = "".join(BARS[round(share * (len(BARS) - 1))] for share in shares)
    return f"|{bars}| {100 * shares[-1]:5.1f} %"


def clock(seconds: float) -> str:
    """Returns a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class RateMeter:
    """Steps per second between two readings."""

    def __init__(self) -> None:
        """Has no reading yet."""
        self.step: int | None = None
        self.watch = Stopwatch()
        self.at = 0.0

    def read(self, step: int) -> float:
        """Returns the rate since the last reading, 0 at the first."""
        now, last = self.watch.seconds(), self.step
        rate = (step - last) / max(now - self.at, 1e-9) if last is not None else 0.0
        self.step, self.at = step, now
        return rate


LONGEST_WAIT, WAIT_PER_WORK = 10.0, 10.0
"""Seconds that may pass between two readings though the process does nothing, and how many times
the processor time that it spends."""


class Stopwatch:
    """Seconds since it was made, plus those of earlier sessions of the same run.

    Time is added from reading to reading, so that a clock that jumps, back or forward (a machine
    that slept, a process that was stopped), adds seconds and not a day: what lies between two
    readings counts as far as the processor time that the process spent in it makes it likely.

    Args:
        earlier: seconds of earlier sessions.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        """Starts at once."""
        self.total, self.read, self.worked = earlier, time.monotonic(), time.process_time()

    def seconds(self) -> float:
        """Returns the total so far; it never falls."""
        now, worked = time.monotonic(), time.process_time()
        longest = max(LONGEST_WAIT, WAIT_PER_WORK * (worked - self.worked))
        self.total += min(max(0.0, now - self.read), longest)
        self.read, self.worked = now, worked
        return self.total

    def state_dict(self) -> dict[str, float]:
        """Returns the seconds so far, for a checkpoint."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Goes on from the seconds of a checkpoint."""
        self.seconds()
        self.total = state["seconds"]
