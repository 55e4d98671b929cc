"""Files of puzzles, in all their forms, read in blocks (docs/puzzles.md has the table of forms).

One reader serves every command and every puzzle: `read_puzzles` yields batches of questions and of
the answers that the file gives. The first bytes say whether a file is an array, an archive of
arrays, JSON or lines of text. Nothing is ever unpickled.
"""

import codecs
import re
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.puzzle_files.alike_lines import BlockReader
from pir.puzzle_files.answer_lines import AnswerLines
from pir.puzzle_files.arrays import read_archive, read_array
from pir.puzzle_files.batch import Batch, as_batch
from pir.puzzle_files.json_values import read_json
from pir.puzzle_files.lines import LineReader
from pir.puzzle_files.source import Source, opened

LONGEST_LINE = 1 << 23
"""Bytes of a line that is still read."""


def read_puzzles(puzzle: Puzzle, path: str, key: str) -> Iterator[Batch]:
    """Reads a file of puzzles block by block, and says how far it is when that takes long.

    Args:
        puzzle: gives the text form.
        path: the file; `-` for standard input.
        key: the setting that names it, for messages.

    Raises:
        UserError: if the file cannot be read, is no text, or holds nothing.
    """
    found = False
    with opened(path, key) as source:
        start = source.peek(6)
        if start.startswith(b"\x93NUMPY"):
            batches = read_array(puzzle, source, f"{key}={path}")
        elif start.startswith(b"PK\x03\x04"):
            batches = read_archive(puzzle, source, f"{key}={path}")
        else:
            text = _read_text(puzzle, source, f"{key}={path}")
            batches = map(AnswerLines(puzzle).refuse, text)
        for batch in batches:
            found = found or bool(len(batch.lines) or batch.faults)
            yield batch
            source.report(len(batch.lines))
    if not found:
        raise UserError(f"{key}={path} holds no puzzle")


def read_one(puzzle: Puzzle, text: str) -> Batch:
    """Reads text that was typed, which holds puzzles in any form that a file may have."""
    reader = LineReader(puzzle)
    for number, line in enumerate(text.split("\n"), 1):
        reader.feed(number, line)
    return AnswerLines(puzzle).refuse(as_batch(reader.end(), puzzle.length))


def only_puzzle(puzzle: Puzzle, text: str) -> Tensor:
    """Reads text that was typed and holds a single puzzle; see `read_one`.

    Returns:
        The question, uint8 of shape (L,).

    Raises:
        UserError: if it cannot be read, or holds none or several.
    """
    batch = read_one(puzzle, text)
    for fault in batch.faults:
        raise UserError(f"puzzle={text}: {fault.reason} (column {fault.column})")
    if len(batch.questions) != 1:
        raise UserError(f"puzzle={text}: holds {len(batch.questions)} puzzles; one is allowed")
    return torch.from_numpy(batch.questions)[0]


def _read_text(puzzle: Puzzle, source: Source, name: str) -> Iterator[Batch]:
    first = source.peek(4)
    blocks = source.blocks()
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        blocks = _transcoded(blocks, name)
    elif first.startswith(codecs.BOM_UTF8):
        source.read(len(codecs.BOM_UTF8))
    numbered = _whole_lines(blocks, name)
    head = next(numbered, None)
    if head is None:
        return
    if re.match(rb"\s*(?:#[^\n]*\n\s*)*[\[{]", head[1]) and not _is_title(head[1]):
        yield from read_json(puzzle, head, numbered)
        return
    reader = BlockReader(puzzle)
    for number, block in chain([head], numbered):
        yield reader.read(number, block)
    yield reader.end()


def _is_title(block: bytes) -> bool:
    """Says whether a text that begins with a bracket begins with a title such as `[Puzzle]`."""
    return bool(re.match(rb"\s*(?:#[^\n]*\n\s*)*\[\s*[A-Za-z]", block))


def _transcoded(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Turns UTF-16 into UTF-8.

    Raises:
        UserError: if it is none.
    """
    decoder, line = codecs.getincrementaldecoder("utf-16")(), 1
    for block in chain(blocks, [b""]):
        try:
            text = decoder.decode(block, final=not block)
            data = text.encode()
        except UnicodeError as error:
            reason = f"line {line} or one below it is no UTF-16 text ({error})"
            raise UserError(f"{name} cannot be read: {reason}") from error
        line += text.count("\n")
        yield data


def _refuse_other_text(block: bytes, number: int, name: str) -> None:
    """Refuses lines, the first of which has that number, if they are no UTF-8.

    Raises:
        UserError: with the place.
    """
    try:
        block.decode()
    except UnicodeDecodeError as error:
        begin = block.rfind(b"\n", 0, error.start) + 1
        line = number + block.count(b"\n", 0, error.start)
        column = len(block[begin : error.start].decode()) + 1
        raise UserError(
            f"{name} cannot be read: line {line}, column {column}: the byte "
            f"{block[error.start]:#04x} is no UTF-8 text; save the file as UTF-8"
        ) from error


def _whole_lines(blocks: Iterator[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yields blocks that end where a line ends, with the number of their first line.

    Lines that are too long are cut there; the reader of lines then refuses them.

    Raises:
        UserError: if the bytes are no text.
    """
    number, rest, old_mac = 1, b"", None
    for block in blocks:
        zero = block.find(b"\0")
        if zero >= 0:
            line = number + rest.count(b"\n") + block.count(b"\n", 0, zero)
            raise UserError(
                f"{name} cannot be read: it is no text (a zero byte in line {line}); UTF-16 "
                "is read if it begins with its mark"
            )
        if old_mac is None and block:
            old_mac = b"\r" in block[:-1] and b"\n" not in block
        block = rest + (block.replace(b"\r", b"\n") if old_mac else block)
        end = block.rfind(b"\n") + 1
        if end == 0 and len(block) > LONGEST_LINE:
            raise UserError(
                f"{name}, line {number}: longer than {LONGEST_LINE:,} bytes, so no line of a "
                "puzzle; of JSON too, write one value per line"
            )
        rest = block[end:]
        if end:
            whole = block[:end]
            if not whole.isascii():
                _refuse_other_text(whole, number, name)
            yield number, whole
            number += block.count(b"\n", 0, end)
    if rest:
        _refuse_other_text(rest, number, name)
        yield number, rest
