"""The floor plan: rooms import one another in one direction, and say what they are."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {"pir": "pir", "envs": "pir.envs", "analysis": "pir.analysis"}


def modules() -> Iterator[tuple[str, Path]]:
    for folder, name in TOP.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside = file.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((name, *(part for part in inside if part != "__init__"))), file


def room(module: str) -> str:
    """The folder that a module lies in; a module beside the rooms is one of its own."""
    top = next(name for name in reversed(TOP.values()) if f"{module}.".startswith(f"{name}."))
    inside = module.removeprefix(top).split(".")[1:2]
    return ".".join([top, *inside])


def imported(file: Path, known: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pir":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def test_rooms_import_one_another_in_one_direction():
    """Imports inside functions count too; what gathers a package for its users does not."""
    known = dict(modules())
    edges = defaultdict(set)
    for module, file in known.items():
        if module in TOP.values():
            continue
        for other in imported(file, set(known)):
            if room(other) not in (room(module), *TOP.values()):
                edges[room(module)].add(room(other))
    assert len(edges) > 25
    left = dict(edges)
    while left:
        leaves = [name for name in left if not left[name] & left.keys()]
        assert leaves, {name: left[name] & left.keys() for name in left}
        for name in leaves:
            del left[name]


@pytest.mark.parametrize("folder", ["pir", "envs", "analysis"])
def test_every_room_says_what_it_is(folder):
    for package in (ROOT / folder).rglob("__init__.py"):
        words = ast.get_docstring(ast.parse(package.read_text()))
        assert words, package
        assert len(words) > 30, package


def test_no_file_is_long():
    long = {}
    for module, file in modules():
        lines = len(file.read_text().splitlines())
        if lines > 400:
            long[module] = lines
    assert not long
