"""How many puzzles are improved at once where no gradient is needed: as many as fit and help."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pir.errors import UserError
from pir.reasoner import Reasoner
from pir.system.device import own_random_stream
from pir.system.memory import is_out_of_memory, total_memory

MOST = 1000
"""Puzzles at once that are not exceeded by default; more are hardly faster."""

SHARE = 1 / 4
"""Of the memory at hand that a batch may fill by the estimate. The rest is for what the estimate
does not see: work space within operations, sweeps beside the rollouts, other processes. Measured on
a CPU, on Countdown, 9x9 Sudoku, graphs and hard mazes (convolution; attention over 900 tokens): an
evaluation takes up 0.7 to 2.4 times the estimate."""

ENOUGH_ON_CPU = 256 << 20
"""Estimated bytes of a batch that keep a CPU busy. A step of 1000 9x9 Sudokus (0.55 MB each) takes
2.19, 2.20, 2.23 and 2.36 seconds of a thread with 32, 96, 250 and 1000 at once, and 0.57, 0.69,
0.91 and 2.17 GB of memory."""

POLICIES = 16
"""Values per token and position that the ledger's statistics hold at once."""


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that come to be, and the most that are alive at once."""

    def __init__(self) -> None:
        """Counts from now on."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.most = 0
        self.seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in self._tensors(args):  # what was there before, of which results may be views
            self.seen.add(tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in self._tensors(result):
            storage = tensor.untyped_storage()
            if storage not in self.seen:
                self.seen.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    @staticmethod
    def _tensors(values: Any) -> Iterator[Tensor]:
        return (value for value in tree_leaves(values) if isinstance(value, Tensor))

    def _change(self, size: int) -> None:
        self.alive += size
        self.most = max(self.most, self.alive)


@torch.no_grad()
def bytes_per_puzzle(reasoner: Reasoner, question: Tensor) -> int:
    """Estimates the memory that one more puzzle takes up during an improvement step.

    The tensors of a step are counted while it is taken with one puzzle and with two.

    Args:
        reasoner: takes the step.
        question: uint8 of shape (1, L), any one.
    """
    peaks: list[int] = []
    for count in (1, 2):
        questions = question.repeat(count, 1)
        k = torch.ones(count, dtype=torch.int64, device=question.device)
        with own_random_stream(question.device), Peak() as peak:
            state, condition = reasoner.start(questions), reasoner.context(questions)
            improved = reasoner.improve(questions, state, k, condition)
            logits = reasoner.read_out(improved).logits
        peaks.append(peak.most)
    return peaks[1] - peaks[0] + POLICIES * logits[0].numel() * logits.element_size()


def memory_at_hand(device: torch.device) -> int:
    """Returns the bytes of a CUDA device that are free, else those of the whole machine.

    The machine's are the same at every start, so that runs with one seed stay alike. Limits of
    control groups count.
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        reserved: int = torch.cuda.memory_reserved(device)
        return free + reserved - torch.cuda.memory_allocated(device)
    return total_memory() or 8 << 30


def fitting_batch(wanted: int | None, reasoner: Reasoner, question: Tensor) -> int:
    """Returns how many of some puzzles to improve at once.

    Args:
        wanted: the setting, which decides; None for what fits into `SHARE` of the memory at hand,
            on a CPU into `ENOUGH_ON_CPU` of it; at most `MOST`, else a power of two.
        reasoner: improves them.
        question: uint8 of shape (B, L), of all these puzzles.
    """
    if wanted is not None or len(question) == 1:
        return min(wanted or 1, len(question))
    room = SHARE * memory_at_hand(question.device)
    if question.device.type == "cpu":
        room = min(room, ENOUGH_ON_CPU)
    count = max(1, int(room / bytes_per_puzzle(reasoner, question[:1])))
    return min(MOST if count >= MOST else 1 << (count.bit_length() - 1), len(question))


@contextmanager
def named_when_short(setting: str, value: int | None) -> Iterator[None]:
    """Names the setting that a lack of memory is mended by.

    Args:
        setting: says how many puzzles are improved at once.
        value: what it is.

    Raises:
        UserError: in place of the error of an allocator.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        given = "null" if value is None else value
        raise UserError(
            f"{setting}={given}: too little memory for so many puzzles at once; set it lower "
            f"({str(error).splitlines()[0] if str(error) else 'MemoryError'})"
        ) from error
