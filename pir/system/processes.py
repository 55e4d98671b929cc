"""The processes that train one run together, and what they tell one another.

`torchrun` starts them; each is a rank from 0 to N - 1, and all call the functions here at the same
points. In a process by itself every function returns what it was given. Numbers on the CPU go by
gloo, tensors on a CUDA device by NCCL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from pir.errors import UserError


class LostProcessError(UserError):
    """Another process of the run has ended before it was told to."""


def launched() -> bool:
    """Says whether torchrun, or what does as it does, has started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def size() -> int:
    """Returns how many processes train together, N."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Joins the other processes, if this one was launched with others, and leaves them at the end.

    Raises:
        LostProcessError: if they cannot be reached.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    with _reached():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise LostProcessError(f"another process of this run has ended ({reason})") from error


def total(values: Tensor) -> Tensor:
    """Returns the sums over all processes, of numbers of equal shape."""
    if size() == 1:
        return values
    summed = values.clone()
    with _reached():
        dist.all_reduce(summed)
    return summed


def mean(values: Tensor) -> Tensor:
    """Returns the means over all processes, of numbers of equal shape."""
    return values if size() == 1 else total(values.float()) / size()


def any_of(flag: bool) -> bool:
    """Says whether a flag is set in one of the processes."""
    return flag if size() == 1 else bool(total(torch.tensor(int(flag))))


def gathered(rows: Tensor, dim: int = 0) -> Tensor:
    """Returns the rows of all processes, in the order of their ranks.

    Args:
        rows: of one shape in all processes.
        dim: the dimension that counts them.
    """
    if size() == 1:
        return rows
    as_bytes = rows.contiguous().view(-1).view(torch.uint8)  # gloo and NCCL know few types
    parts = [torch.empty_like(as_bytes) for _ in range(size())]
    with _reached():
        dist.all_gather(parts, as_bytes)
    return torch.cat([part.view(rows.dtype).view(rows.shape) for part in parts], dim)


def told(text: str) -> str:
    """Returns the text that the process of rank 0 gave."""
    if size() == 1:
        return text
    content = torch.tensor(list(text.encode(errors="surrogateescape")), dtype=torch.uint8)
    length = torch.tensor(len(content))
    with _reached():
        dist.broadcast(length, 0)
        content = content if rank() == 0 else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(content, 0)
    return bytes(content.tolist()).decode(errors="surrogateescape")
