"""The reading layer: what a run folder holds, checked and typed (docs/run_folder.md).

Figures, reports and comparisons read run folders through this module alone. A file that is not
there is None, because evaluations write some files only on demand; a damaged one is a `UserError`
that names it.
"""

import re
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pir.analysis.reading.archive import LARGEST, open_archive
from pir.analysis.words import plain

from pir.errors import UserError
from pir.runs.records import Facts, read_facts
from pir.runs.schema import (
    BREADTH,
    CELLS,
    COMMAND,
    CONFIG,
    EXAMPLES,
    EXITS,
    FACTS,
    FILES,
    GUIDANCE,
    IMPROVEMENT,
    INFO,
    LATENTS,
    METRICS,
    OPTIMALITY,
    PER_OUTCOME,
    PER_PUZZLE,
    PER_STEP,
    STEP_SIZE,
    STEPS,
    STRATA,
    SUMMARY,
    TIMING,
    File,
    place,
)
from pir.runs.typed import from_json, span
from pir.system.stored import (
    MOST_SETTINGS,
    read_bytes,
    read_object,
    read_settings,
    read_table,
    refuse,
)

__all__ = [
    "BREADTH",
    "CELLS",
    "CONFIG",
    "EXAMPLES",
    "EXITS",
    "FACTS",
    "GUIDANCE",
    "IMPROVEMENT",
    "INFO",
    "LATENTS",
    "METRICS",
    "OPTIMALITY",
    "PER_OUTCOME",
    "PER_PUZZLE",
    "PER_STEP",
    "STEPS",
    "STEP_SIZE",
    "STRATA",
    "SUMMARY",
    "TIMING",
    "Run",
    "Table",
    "without_seed",
]

ON_DEMAND = {
    GUIDANCE: "'eval.guidance=[0.5,1,1.5,2,3]'",
    STEP_SIZE: "'eval.step_size=[0.25,0.5,1,1.5]'",
    BREADTH: "eval.breadth=8",
    EXITS: "eval.exit=all",
}
"""The setting that makes `pir eval` write a file; the others it always writes."""


class Table:
    """A CSV file, by columns.

    Args:
        path: the file, for messages.
        columns: text columns as str, all others as float64; blank and `nan` are NaN.
    """

    def __init__(self, path: Path, columns: dict[str, np.ndarray]) -> None:
        """Keeps the columns."""
        self.path, self.columns = path, columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise UserError(
                f"{self.path} has no column {name}: it is damaged or older than this command; "
                "`pir eval` writes it anew"
            )
        return self.columns[name]

    def where(self, mask: np.ndarray) -> "Table":
        """Returns the rows that a mask of shape (rows,) keeps."""
        return Table(self.path, {name: column[mask] for name, column in self.columns.items()})

    def distinct(self, name: str) -> list[Any]:
        """Returns the values of a column, each once, in the order of the file."""
        return list(dict.fromkeys(self[name].tolist()))


class Run:
    """A run folder, read file by file when asked.

    Args:
        folder: the folder.
        evaluation: the name of the evaluation that is read; None for the one without a name.

    Attributes:
        name: of the folder.
        label: what the user calls the run; None for no such name.
    """

    def __init__(self, folder: Path | str, evaluation: str | None = None) -> None:
        """Reads nothing yet."""
        self.folder, self.evaluation = Path(folder), evaluation
        self.name = plain(self.folder.resolve().name)
        self.label: str | None = None

    def path(self, file: str) -> Path:
        """Returns where a file of the schema lies, those of the evaluation in its folder."""
        return self.folder / place(file, self.evaluation)

    def command(self, *files: str) -> str:
        """Returns the command that writes files into this folder, and again those on demand.

        An evaluation takes the place of the one before, with all its files.
        """
        words = [f"pir eval run={shlex.quote(str(self.folder))}"]
        if self.evaluation is not None:
            words.append(f"eval.name={shlex.quote(self.evaluation)}")
        words += [text for file, text in ON_DEMAND.items() if file in files or self.has(file)]
        return " ".join(words)

    def has(self, file: str) -> bool:
        """Says whether the file exists."""
        return self.path(file).is_file()

    def table(self, file: str) -> Table | None:
        """Reads a CSV file.

        Raises:
            UserError: if it is damaged.
        """
        path = self.path(file)
        if not path.is_file():
            return None
        header, rows = read_table(path)
        try:
            columns = {
                name: _column(FILES[file], name, cells)
                for name, cells in zip(header, zip(*rows, strict=True), strict=True)
            }
        except ValueError as error:
            refuse(path, error)
        return Table(path, columns)

    def required(self, file: str) -> Table:
        """Reads a CSV file that must be there.

        Raises:
            UserError: if it is missing or damaged; the message says what makes it.
        """
        table = self.table(file)
        if table is None:
            raise UserError(f"{self.path(file)} is missing: `{self.command(file)}` writes it")
        return table

    def arrays(self, file: str, *names: str) -> dict[str, np.ndarray] | None:
        """Reads arrays of a .npz file; without names, all of them.

        Raises:
            UserError: if it is damaged or lacks one of them.
        """
        path = self.path(file)
        if not path.is_file():
            return None
        with open_archive(path) as archive:
            for name in names:
                if name not in archive.members:
                    raise UserError(
                        f"{path} has no array {name}: it is damaged or older than this command; "
                        f"`{self.command(file)}` writes it anew"
                    )
            return {name: archive[name] for name in names or archive.members}

    def required_arrays(self, file: str, *names: str) -> dict[str, np.ndarray]:
        """Reads arrays of a .npz file that must be there; without names, all of them.

        Raises:
            UserError: if it is missing, damaged or lacks one of them; the message says what makes
                it.
        """
        arrays = self.arrays(file, *names)
        if arrays is None:
            raise UserError(f"{self.path(file)} is missing: `{self.command(file)}` writes it")
        return arrays

    def step_values(self, *names: str) -> dict[str, np.ndarray]:
        """Reads per-puzzle statistics, each of shape (N, K), and `rating`, of shape (N,).

        Raises:
            UserError: if they are missing or damaged.
        """
        values = self.required_arrays(STEPS, *names)
        shapes = {array.shape for name, array in values.items() if name != "rating"}
        shape = shapes.pop() if shapes else ()
        rating = values.get("rating")
        if shapes or len(shape) != 2 or (rating is not None and rating.shape != shape[:1]):
            raise UserError(f"{self.path(STEPS)} is damaged: its arrays differ in shape")
        return values

    def content(self, file: str) -> dict[str, Any] | None:
        """Reads a JSON file, checked, with whatever else it holds.

        Raises:
            UserError: if it is damaged, or a value is of another type than the schema has it.
        """
        path, record = self.path(file), FILES[file].record
        if not path.is_file():
            return None
        content = read_object(path)
        if record is not None:
            try:
                from_json(record, content)
            except ValueError as error:
                refuse(path, error)
        return content

    @cached_property
    def _words(self) -> list[str] | None:
        """The words of command.txt; None if there is none, or they cannot be told apart.

        Raises:
            UserError: if command.txt is no such file.
        """
        if not self.has(COMMAND):
            return None
        typed = read_bytes(self.folder / COMMAND, MOST_SETTINGS).decode(errors="replace").strip()
        try:
            return shlex.split(typed)
        except ValueError:
            return [typed]

    @property
    def started_by(self) -> str:
        """The command that started the run, without the path of its interpreter; "" if unknown."""
        words = self._words or []
        if "train" in words:
            words = ["pir", *words[words.index("train") :]]
        return plain(shlex.join(words) if len(words) > 1 else "".join(words))

    @cached_property
    def typed(self) -> dict[str, str] | None:
        """The settings in that command by dotted key; None if it was no `pir train`."""
        words = self._words or []
        at = words.index("train") if "train" in words else 0
        if not at or Path(words[at - 1]).name != "pir":
            return None
        parts = (word.partition("=") for word in words[at + 1 :] if not word.startswith("-"))
        return {key.lstrip("+~").replace("/", "."): value for key, _, value in parts}

    @cached_property
    def facts(self) -> Facts:
        """eval.json.

        Raises:
            UserError: if it is missing (the run has not ended) or damaged.
        """
        if not self.has(FACTS):
            raise UserError(
                f"{self.folder} has no evaluation yet: let its training end, "
                f"or `{self.command(FACTS)}`"
            )
        return read_facts(self.path(FACTS))

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml; the run that this one began with, `init`, is named without the seed.

        Raises:
            UserError: if it is missing or damaged.
        """
        settings = read_settings(self.folder / CONFIG)
        if settings.get("init") is not None:
            settings["init"] = without_seed(str(settings["init"]), settings.get("seed"))
        return settings

    def at_trained_depth(self, table: Table) -> Table:
        """Returns the rows after the step that the model was trained for (or the last there is)."""
        return table.where(table["k"] == min(self.facts.trained_steps, np.max(table["k"])))


def without_seed(name: str, seed: object) -> str:
    """Returns a name without what names its seed: `seed=1`, or else the last bare 1."""
    number = rf"{re.escape(str(seed))}(?!\d)"
    found = re.search(rf"[,_-]*seed[=_-]?{number}", name)
    if not found:  # no number that is a setting's value as in model.heads=2
        *_, found = [None, *re.finditer(rf"[,_-]*(?<![=\d]){number}", name)]
    return (found and name[: found.start()] + name[found.end() :]) or name


def _column(file: File, name: str, cells: Sequence[str]) -> np.ndarray:
    """Reads a column as the schema has it, one that is not in it as numbers.

    A number that is blank or `nan` is undefined.
    """
    kind, least, most = span(file.known[name].kind if name in file.known else float)
    if kind is str:
        return np.array(cells)
    try:
        values = np.array([float(cell or "nan") for cell in cells])
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from error
    wrong = (np.abs(values) > LARGEST) | (values < least) | (values > most)
    if kind is int:
        wrong |= np.isfinite(values) & (values != np.round(values))
    if name == "k":
        wrong |= np.isnan(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"line {row + 2}, column {name}: {cells[row]} is out of range")
    return values
