"""A second device without hardware, and arithmetic that rounds as other devices do.

`SecondDevice` makes tensors of the CPU that pretend to live elsewhere. They hold real values, so
that whole programs run on them, and raise where a GPU raises: where they meet tensors of the CPU,
or are read as arrays. `OtherRounding` rounds what is computed with fractions in another way.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SECOND = torch.device("xpu:0")
"""The name of the second device: one that torch knows and that no machine needs to have."""

_CPU = torch.device("cpu")
_COMPOSED = ("torch.nn.functional", "torch.functional", "torch.nn.init")
"""Modules of functions that are written in Python and look at the device of what they are given."""

_ARRAYS = {Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}
_MOVES = {Tensor.to, Tensor.cpu, torch.as_tensor, torch.asarray}
_PLACING = {"device", "generator"}
_COPIES = {Tensor.copy_, Tensor.data.__set__}  # type: ignore[attr-defined]
_INDEXED = {Tensor.__getitem__, torch.index_put, Tensor.index_put, Tensor.index_put_}


class Elsewhere(Tensor):
    """A tensor of the CPU that pretends to live on `SECOND`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch as the second device would."""
        return _run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The second device."""
        return SECOND

    is_cpu = False

    def get_device(self) -> int:
        """Returns the number of the device."""
        return 0

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unbind(0))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            memo[id(self)] = copied = self.detach().clone().requires_grad_(self.requires_grad)
            copied.__dict__.update(self.__dict__)  # among them, whether it is a parameter
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _copied(self, _CPU).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


class _Generator(torch.Generator):
    """A generator that remembers which device it was made for."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        """Draws on the CPU in any case."""
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device that it was made for."""
        return self.place


class SecondDevice(TorchFunctionMode):
    """Inside, `SECOND` can be computed on, and tensors of two devices that meet raise.

    A tensor of the CPU may meet others where it has no dimension, or where it is an index, as on a
    CUDA device.
    """

    def __enter__(self) -> "SecondDevice":
        """Makes the device."""
        self._generator = torch.Generator
        torch.Generator = _Generator  # type: ignore[misc]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """Takes it away again."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        torch.Generator = self._generator  # type: ignore[misc]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch, on either device."""
        kwargs = kwargs or {}
        ours = Elsewhere in types or not _PLACING.isdisjoint(kwargs) or func in _MOVES
        if ours and all(issubclass(kind, Tensor) for kind in types):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)  # on the CPU, or of a TensorDict, whose tensors come by again


def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Checks where the arguments are, runs the function on the CPU, and says where its results are.

    Raises:
        RuntimeError: if devices meet.
        TypeError: if a tensor of the second device is read as an array.
    """
    if func is torch._has_compatible_shallow_copy_type:
        return False  # a module that is moved gets new parameters
    if func is Tensor.__deepcopy__:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args)
    tensors = list(_tensors((args, kwargs)))
    away = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    asked, args, kwargs = _asked_for(func, args, kwargs)
    place = asked or (SECOND if away else _CPU)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != place.type:
        raise RuntimeError(f"a generator of {generator.device} draws on {place}, in {_name(func)}")
    if away:
        if func in _ARRAYS and not kwargs.get("force"):
            raise TypeError(f"a tensor of {SECOND} is read as an array: use Tensor.cpu() first")
        if func not in _MOVES and func not in _COPIES:
            _refuse_mixed(func, args, kwargs)
        if getattr(func, "__module__", None) in _COMPOSED:
            args, kwargs = _mapped(args, _as_plain), _mapped(kwargs, _as_plain)
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
    if func in _MOVES and asked is not None:
        moved = isinstance(tensors[0], Elsewhere) != (place == SECOND) if tensors else place
        return _copied(result, place) if moved else _mapped(result, _put(place))
    return _mapped(result, _put(place)) if func not in _COPIES else result


def _asked_for(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
    """Finds the device that is asked for, if any; in the arguments returned it is the CPU."""
    if func is Tensor.cpu:
        return _CPU, args, kwargs
    asked: torch.device | None = None

    def settled(value: Any) -> Any:
        nonlocal asked
        if isinstance(value, str | torch.device) and torch.device(value).type in ("cpu", "xpu"):
            asked = SECOND if torch.device(value).type == "xpu" else _CPU
            return _CPU
        return value

    if "device" in kwargs:
        kwargs = kwargs | {"device": settled(kwargs["device"])}
    if func is Tensor.to:
        args = (args[0], *map(settled, args[1:]))
        if len(args) > 1 and isinstance(args[1], Tensor):
            asked = args[1].device
    return asked, args, kwargs


def _refuse_mixed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises a RuntimeError where tensors of the CPU meet others and may not."""
    subject = args[0] if args else None
    checked: Any = (args, kwargs)
    if isinstance(subject, Elsewhere):
        if func in _INDEXED:
            checked = args[2:]
        elif func is Tensor.__setitem__:
            by_tensor = any(True for _ in _tensors(args[1]))
            checked = args[2:] if by_tensor else ()
    met = [t for t in _tensors(checked) if not isinstance(t, Elsewhere) and t.ndim > 0]
    if met:
        raise RuntimeError(f"tensors of {SECOND} and of the CPU meet in {_name(func)}")


def _name(func: Any) -> str:
    owner = getattr(func, "__self__", None)
    return str(
        getattr(func, "__name__", func) if owner is None else getattr(owner, "__name__", func)
    )


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {key: _mapped(value, change) for key, value in values.items()}
    if isinstance(values, list | tuple):
        inside = [_mapped(value, change) for value in values]
        return type(values)._make(inside) if hasattr(values, "_make") else type(values)(inside)
    return values


def _as_plain(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor) if isinstance(tensor, Elsewhere) else tensor


def _put(place: torch.device) -> Callable[[Tensor], Tensor]:
    """Returns what makes a result one of a device, without a copy."""

    def change(tensor: Tensor) -> Tensor:
        if place == SECOND and not isinstance(tensor, Elsewhere):
            with torch._C.DisableTorchFunctionSubclass():
                return tensor.as_subclass(Elsewhere)
        return tensor

    return change


def _copied(tensor: Tensor, place: torch.device) -> Tensor:
    """Copies a tensor to a device."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.clone().as_subclass(Elsewhere if place == SECOND else Tensor)


# ---------------------------------------------------------------- rounding

_EXACT = {"abs", "ceil", "floor", "frac", "neg", "round", "sgn", "sign", "trunc", "_to_copy"}
"""Operations whose results are the same everywhere, whatever they are given."""

_QUOTIENTS = {"div", "reciprocal", "mean"}
"""Operations that devices round even where numbers and result are whole: 243 * (1 / 243) < 1."""


class OtherRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, results that devices may round are two units in the last place from the usual ones.

    GPUs multiply by reciprocals, add in another order, and have exponentials, logarithms and roots
    of their own. Exact are operations on whole numbers with whole results, quotients apart, and
    those that only move or choose values. Only torch is seen, not numpy or Python's `math`.

    Args:
        up: whether results are too large rather than too small in magnitude.
    """

    def __init__(self, up: bool = False) -> None:
        """Notes the direction."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._bound = torch.inf if up else 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, and shifts what it computed."""
        kwargs = kwargs or {}
        changes = func._schema.is_mutable  # then the numbers given are gone afterwards
        given = [t.clone() if changes else t for t in _tensors((args, kwargs))]
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__.rstrip("_")
        if func.is_view or name in _EXACT or kwargs.get("rounding_mode") or not given:
            return result
        numbers = [0.0, *_scalars(func, args, kwargs)]  # nothing is where nothing else is put
        for found in _tensors(result):
            if not found.is_floating_point():
                continue
            if name in _QUOTIENTS or _is_rounded(found, given, numbers):
                end = found.sign() * self._bound
                shifted = found.nextafter(end).nextafter(end)
                found.copy_(torch.where(found.isfinite() & (found != 0), shifted, found))
        return result


def _is_rounded(result: Tensor, given: list[Tensor], numbers: list[float]) -> bool:
    """Whether a result is neither whole, of whole numbers, nor chosen from what was given."""
    if all(_is_whole(values) for values in (result, *given)):
        return False
    known = [values.flatten().to(result.dtype) for values in given]
    return not bool(torch.isin(result, torch.cat([*known, result.new_tensor(numbers)])).all())


def _is_whole(values: Tensor) -> bool:
    return not values.is_floating_point() or bool((values == values.round()).all())


def _scalars(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float]:
    """Returns the numbers among the arguments that are values, not dimensions or sizes."""
    kinds = {argument.name: str(argument.type) for argument in func._schema.arguments}
    named = dict(zip(kinds, args, strict=False)) | kwargs
    values = {name for name, kind in kinds.items() if "number" in kind or "float" in kind}
    return [float(v) for name, v in named.items() if name in values and isinstance(v, int | float)]
