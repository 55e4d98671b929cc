"""Where a run computes: device, threads, memory allocator."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.errors import UserError
from pir.system import processes
from pir.system.stopwatch import LONGEST_WAIT

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices that compute; there is one CPU, the others may have a number (cuda:1)."""

MOST_THREADS = 1024


def choose_device(name: str) -> torch.device:
    """Returns the device that a setting names; "auto" takes cuda, else mps, else cpu.

    Of several processes that train together on one machine each takes a CUDA device of its own.

    Raises:
        UserError: if the name is no device or the device is not there.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        name = "cuda"
    kind, _, number = name.partition(":")
    if kind == "cuda" and processes.size() > 1:
        if number:
            raise UserError(f"device={name}: processes take a device each, so name cuda alone")
        name = f"cuda:{os.environ.get('LOCAL_RANK', processes.rank())}"
    if kind not in DEVICES or (kind == "cpu" and number not in ("", "0")):
        kinds = ", ".join(DEVICES)
        raise UserError(f"device={name}: not available; allowed are auto, {kinds} and cuda:1 ...")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        if kind == "cuda":
            torch.cuda.set_device(device)  # NCCL, pinned memory and the dtypes look there
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device={name}: not available here ({reason})") from error
    return device


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where the device multiplies it natively, else float32.

    Measured on two cores with AVX512-BF16: a training step of the default model runs 1.5 to 1.7
    times as fast in bfloat16. Where the instruction is missing, bfloat16 is emulated.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not public yet
        native = device.type == "cpu" and probe()
    return torch.bfloat16 if native else torch.float32


def device_of(module: nn.Module) -> torch.device:
    """Returns where a module's parameters are, or its buffers; the CPU if it has neither."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def time_on(device: torch.device) -> float:
    """Returns seconds on a clock, read when the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class Table:
    """A constant tensor, copied to every device once, so that nobody waits for it again.

    Args:
        values: the tensor, on the CPU.
    """

    def __init__(self, values: Tensor) -> None:
        """Keeps it."""
        self.copies = {values.device: values}

    def on(self, device: torch.device) -> Tensor:
        """Returns the tensor on a device."""
        if device not in self.copies:
            self.copies[device] = next(iter(self.copies.values())).to(device)
        return self.copies[device]


def sent(data: TensorDict, device: torch.device) -> TensorDict:
    """Returns data of the CPU on a device; the host does not wait for a CUDA device to take it."""
    if device.type == "cuda":  # from other memory the copy begins when all before it is done
        data = cast(TensorDict, data.apply(Tensor.pin_memory))
    return data.to(device, non_blocking=device.type == "cuda")


def fetched(data: TensorDict) -> Callable[[], TensorDict]:
    """Begins to copy data to the CPU, and returns a function that waits for the copy."""
    device = next(iter(data.values(True, True))).device
    if device.type != "cuda":
        copy = data.to(torch.device("cpu"))
        return lambda: copy
    copy = data.to(torch.device("cpu"), non_blocking=True)
    mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
    mark.record(torch.cuda.current_stream(device))

    def wait() -> TensorDict:
        mark.synchronize()
        return copy

    return wait


class DeviceTime:
    """Seconds that a device spends on what is done inside `with`, over all times.

    On CUDA the device notes the times itself, and nobody waits before they are read.

    Args:
        device: computes inside.
    """

    def __init__(self, device: torch.device) -> None:
        """Has spent nothing."""
        self.device, self.seconds, self.started = device, 0.0, 0.0
        self.marks: list[torch.cuda.Event] = []

    def __enter__(self) -> None:
        """Notes the beginning."""
        if self.device.type == "cuda":
            self._mark()
        else:
            self.started = time_on(self.device)

    def __exit__(self, *_: object) -> None:
        """Notes the end."""
        if self.device.type == "cuda":
            self._mark()
        else:  # the clock may jump
            self.seconds += min(max(0.0, time_on(self.device) - self.started), LONGEST_WAIT)

    def _mark(self) -> None:
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self.device))
        self.marks.append(mark)

    def read(self) -> float:
        """Returns the seconds since the last reading, and waits until they are over."""
        if self.marks:
            time_on(self.device)
            pairs = zip(self.marks[::2], self.marks[1::2], strict=True)
            self.seconds += sum(start.elapsed_time(end) / 1000 for start, end in pairs)
        seconds, self.seconds = self.seconds, 0.0
        self.marks.clear()
        return seconds


def prepare_cpu(threads: int | None, setting: str = "trainer.threads") -> None:
    """Sets the number of threads and keeps freed memory for the next step.

    By default glibc hands every large tensor back to the system and maps it anew at the next step;
    the page faults cost about a fifth of a training step.

    Args:
        threads: how many; None for torch's choice.
        setting: that says so, for messages.

    Raises:
        UserError: if `threads` is out of range.
    """
    if threads is not None:
        if not 1 <= threads <= MOST_THREADS:
            raise UserError(f"{setting}={threads}: allowed are 1 to {MOST_THREADS}, or null")
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            mallopt(_M_TRIM_THRESHOLD, 1 << 30)
            mallopt(_M_TOP_PAD, 64 << 20)


def random_state(device: torch.device) -> Tensor | None:
    """Returns the state of a device's own random generator; None on a CPU, or if it has none."""
    module = getattr(torch, device.type, None)
    if device.type == "cpu" or module is None or not module.is_available():
        return None
    state: Tensor = module.get_rng_state(*_numbered(device))
    return state


def set_random_state(device: torch.device, state: Tensor | None) -> None:
    """Puts the state of a device's own random generator back, if there is one."""
    if state is None or random_state(device) is None:
        return
    getattr(torch, device.type).set_rng_state(state, *_numbered(device))


def _numbered(device: torch.device) -> list[torch.device]:
    """Returns what says which device of its kind is meant: of mps there is one."""
    return [] if device.type == "mps" else [device]


@contextmanager
def own_random_stream(device: torch.device) -> Iterator[None]:
    """Puts torch's random states back afterwards, on the CPU and on the device."""
    cpu, other = torch.get_rng_state(), random_state(device)
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        set_random_state(device, other)
