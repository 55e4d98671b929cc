"""The processes that train one run together, and what they tell one another.

`torchrun` starts them; each is a rank from 0 to N - 1, and all call the functions here at the same
points. In a process by itself every function returns what it was given. Numbers on the CPU go by
gloo, tensors on a CUDA device by NCCL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from pir.errors import UserError
from pir.system.launch import launched
from pir.system.terminal import one_line

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store


class LostProcessError(UserError):
    """Another process of the run has ended before it was told to."""


def size() -> int:
    """Returns how many processes train together, N."""
    return dist.get_world_size() if _has_joined() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if _has_joined() else 0


def _has_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def joined() -> Iterator[None]:
    """Joins the other processes, if this one was launched with others, and leaves them at the end.

    Raises:
        LostProcessError: if they cannot be reached.
    """
    if not launched() or _has_joined():
        yield
        return
    from torch.distributed.distributed_c10d import PrefixStore

    with _reached():
        store = _torchrun_store()
        if store is not None:
            # it may still hold the addresses of processes that were there before a restart
            attempt = f"{os.environ['TORCHELASTIC_RESTART_COUNT']} of {os.environ['WORLD_SIZE']}"
            store = PrefixStore(attempt, store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _torchrun_store() -> "Store | None":
    """Returns the store of torchrun itself, which outlives a restart; None if there is none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False)  # type: ignore[attr-defined]


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"no longer with the other processes of this run ({one_line(str(error), 120)})"
        ) from error


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


def kept(name: str, text: str | None = None) -> str | None:
    """Keeps a text where it outlives a restart of all processes, which torchrun sees to.

    Args:
        name: of the text.
        text: to keep; None to leave what is kept.

    Returns:
        What is kept, None if nothing is or if nothing here outlives a restart.
    """
    key = f"pir {os.environ.get('TORCHELASTIC_RUN_ID')} {name}"
    with _reached():
        store = _torchrun_store()
        if store is None:
            return None
        if text is not None:
            store.set(key, os.fsencode(text).hex())
        if not store.check([key]):
            return None
        return os.fsdecode(bytes.fromhex(store.get(key).decode()))


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
