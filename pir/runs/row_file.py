"""The CSV files that grow while a run trains, and what a checkpoint knows of their rows."""

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pir.errors import UserError
from pir.runs.folder import as_csv, write_atomically
from pir.runs.folder_lock import NEVER_ELSEWHERE, refuse_lost, remove


def as_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row whose texts are numbers where they can be read as such."""
    read = dict(row)
    for name, value in row.items():
        for kind in (float, int):  # the last one that can
            with suppress(ValueError):
                read[name] = kind(value) if isinstance(value, str) else value
    return read


class RowFile:
    """A CSV file whose rows are counted and summed up, so that a loss shows later.

    Args:
        path: the file; it appears with the first row.
    """

    def __init__(self, path: Path) -> None:
        """Starts without rows."""
        self.path, self.header = path, ""
        self._restart([])

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows, with a header if the file is new; no rows leave it as it is.

        Raises:
            UserError: if the file cannot be written.
        """
        if not rows:
            return
        names, *lines = as_csv(rows).splitlines(keepends=True)
        try:
            refuse_lost(self.path)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NEVER_ELSEWHERE
            descriptor = os.open(self.path, flags, 0o666)
            with os.fdopen(descriptor, "a", newline="", encoding="utf-8") as file:
                file.write("".join(lines if file.tell() else [names, *lines]))
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error}") from error
        self.header = self.header or names
        self._add([line.encode() for line in lines])

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """All rows that are in the file, numbers as numbers."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [as_numbers(row) for row in csv.DictReader(file)]

    def state(self) -> dict[str, Any]:
        """Returns for a checkpoint: the header, the number of rows and their SHA-256."""
        return {"header": self.header, "rows": self.count, "sha256": self.digest.hexdigest()}

    def resume(self, state: Mapping[str, Any], optimizer_step: int) -> str | None:
        """Takes the file back to where a checkpoint was written; what follows is dropped.

        Rows that were lost or changed in the meantime stay lost; the file is well-formed then.

        Args:
            state: as `state` returned it.
            optimizer_step: of the last row then.

        Returns:
            What is missing, for the user; None if nothing is.
        """
        self.header, expected = state["header"], state["rows"]
        found = self.path.read_bytes() if self.path.is_file() else b""
        lines = found.splitlines(keepends=True)
        whole = lines[:1] == [self.header.encode()] or not self.header
        self._restart(lines[1 : 1 + expected])
        if whole and self.state() == state:
            kept, lost = lines[1 : 1 + expected], None
        else:
            kept = [line for line in lines if self._is_row(line, optimizer_step)][:expected]
            self._restart(kept)
            if len(kept) < expected:
                lost = f"{self.path}: {expected - len(kept)} of {expected} rows are lost"
            elif self.state() == state:
                lost = f"{self.path}: the header was damaged and is mended"
            else:
                lost = f"{self.path}: rows were changed since the checkpoint was written"
        rows = b"".join([self.header.encode(), *kept]) if kept else b""
        if rows:
            if rows != found:
                write_atomically(self.path, lambda file: file.write(rows))
        else:
            remove(self.path)
        return lost

    def _restart(self, lines: Sequence[bytes]) -> None:
        self.count, self.digest = 0, hashlib.sha256()
        self._add(lines)

    def _add(self, lines: Sequence[bytes]) -> None:
        self.count += len(lines)
        self.digest.update(b"".join(lines))

    def _is_row(self, line: bytes, optimizer_step: int) -> bool:
        """Says whether a line is a whole row of a step that was reached."""
        step, *rest = line.split(b",")
        whole = line.endswith(b"\n") and len(rest) == self.header.count(",")
        return whole and step.isdigit() and len(step) < 20 and int(step) <= optimizer_step
