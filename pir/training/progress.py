"""What a person sees while a run trains: a live view in a terminal, plain lines elsewhere."""

from collections.abc import Sequence

from rich.console import Console, Group

from pir.system.stopwatch import Stopwatch
from pir.system.view import View, bar, clock, one_row, row

BARS = " ▁▂▃▄▅▆▇█"


class ProgressView(View):
    """Progress towards the nearest budget, and how much each improvement step solves.

    Args:
        title: what is trained.
        console: where to write; standard error by default.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        """Has nothing to show yet."""
        super().__init__(title, console, transient=False, unnamed="validation")
        self.rate = RateMeter()
        self.share_done = 0.0
        self.status, self.solved, self.validation = "starting", "", ""

    def update(
        self,
        *,
        share_done: float,
        optimizer_step: int,
        seconds: float,
        loss: float,
        solved: Sequence[float],
        solved_at_end: float | None,
    ) -> None:
        """Shows the state of training.

        Args:
            share_done: of the nearest budget; 1 or more is done.
            optimizer_step: updates so far.
            seconds: training time so far, over all resumes.
            loss: mean over the last interval.
            solved: share of training puzzles solved after each improvement step, of those that
                came so far.
            solved_at_end: share of them solved where their rollouts ended; None if none has.
        """
        read, self.share_done, self.part = self.rate.read(optimizer_step), min(1.0, share_done), ""
        rate = "?" if read is None else f"{read:.1f}"
        left = seconds * (1 - self.share_done) / self.share_done if share_done > 0 else 0.0
        self.status = (
            f"step {optimizer_step}  loss {loss:.3f}  {rate} steps/s  "
            f"{clock(seconds)}, {clock(left)} left"
        )
        self.solved = f"solved by step, training    {bar_row(solved, solved_at_end)}"
        if not self.live:
            self.line(
                f"step {optimizer_step:>6}  {100 * self.share_done:3.0f} %  {clock(seconds)}  "
                f"{rate:>5} steps/s  loss {loss:.3f}  solved {bar_row(solved, solved_at_end)}"
            )

    def validated(self, solved: Sequence[float], best: float, improved: bool) -> None:
        """Shows a validation result: solved after each step, and the best so far."""
        mark = ", new" if improved else ""
        self.part = ""
        shown = bar_row(solved, solved[-1])
        self.validation = f"solved by step, validation  {shown}  best {100 * best:.1f} %{mark}"
        if not self.live:
            self.line(self.validation)

    def render(self) -> Group:
        """Returns what the terminal shows."""
        state = row(bar(self.share_done), f"{100 * self.share_done:.0f} %")
        lines = map(one_row, (self.title, self.status, self.solved, self.validation))
        title, status, *solved = lines
        return Group(title, self.working() if self.part else state, status, *solved)


def bar_row(shares: Sequence[float], end: float | None) -> str:
    """Returns shares in [0, 1] as one bar character each, and one in the end as a percentage."""
    if end is None:
        return ""
    bars = "".join(BARS[round(share * (len(BARS) - 1))] for share in shares)
    return f"|{bars}| {100 * end:5.1f} %"


class RateMeter:
    """Steps per second between two readings."""

    def __init__(self) -> None:
        """Has no reading yet."""
        self.step: int | None = None
        self.watch = Stopwatch()
        self.at = 0.0

    def read(self, step: int) -> float | None:
        """Returns the rate since the last reading, None at the first."""
        now, last = self.watch.seconds(), self.step
        rate = None if last is None else (step - last) / max(now - self.at, 1e-9)
        self.step, self.at = step, now
        return rate
