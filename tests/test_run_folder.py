"""The schema of the run folder: what is written, read and described is the same."""

import csv
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
from pir.analysis.reading.runs import Run

from pir.errors import UserError
from pir.ledger.statistics import STATISTICS
from pir.runs.records import read_facts
from pir.runs.schema import EVALUATION, FACTS, FIGURES, FILES, INFO, PER_STEP, SUMMARY
from pir.runs.typed import from_json, span, to_json
from tests.conftest import in_this_process
from tests.run_folders import write_run

DOCUMENT = Path(__file__).parents[1] / "docs" / "run_folder.md"


@pytest.fixture(scope="module")
def evaluated(finished_run, tmp_path_factory):
    """A run with everything that an evaluation may measure."""
    folder = tmp_path_factory.mktemp("run_folder") / "run"
    subprocess.run(["cp", "-r", str(finished_run), str(folder)], check=True)
    in_this_process("eval", f"run={folder}", "eval.puzzles=30", "eval.exit=all",
                    "eval.guidance=[0.5]", "eval.step_size=[0.5]", "eval.breadth=2")  # fmt: skip
    in_this_process("report", f"run={folder}")
    return folder


def test_every_file_is_in_the_schema(evaluated):
    for path in evaluated.rglob("*"):
        name = path.relative_to(evaluated).as_posix()
        assert path.is_dir() or name in FILES or name.startswith(FIGURES), name


def test_files_hold_the_columns_of_the_schema(evaluated):
    seen = set()
    for name, file in FILES.items():
        path, columns = evaluated / name, file.names(list(STATISTICS))
        if not path.is_file() or not columns:
            continue
        seen.add(path.suffix)
        if path.suffix == ".csv":
            with path.open() as lines:
                header = next(csv.reader(lines))
            terms = [column for column in header if column.startswith("loss_")]
            own = {"loss_<term>": terms, "<term>_<figure>": []}
            named = [each for column in columns for each in own.get(column, [column])]
            assert header == named, name
            assert Run(evaluated).table(name) is not None
        elif path.suffix == ".npz":
            whole = [each.name for each in STATISTICS.values() if each.width == 1]
            with np.load(path) as arrays:
                assert arrays.files == file.names(whole), name
        elif file.record is not None:
            content = json.loads(path.read_text())
            assert to_json(from_json(file.record, content)) == content, name
            assert content.keys() <= file.columns.keys()
        else:
            assert list(json.loads(path.read_text())) == columns, name
    assert seen == {".csv", ".npz", ".json"}


def test_facts_are_read_as_they_were_written(evaluated):
    facts = read_facts(evaluated / FACTS)
    assert facts.exits is not None
    assert facts.exits["kl"].improvement_steps >= 1
    assert [each.name for each in facts.statistics] == list(STATISTICS)
    assert len(facts.per_step) == facts.improvement_steps


@pytest.mark.parametrize(
    ("file", "wrong", "message"),
    [
        (SUMMARY, {"solved": "most"}, "solved is of another type"),
        (SUMMARY, {"solved_interval": [0.5, 7]}, r"solved_interval\.1 is 7.*, out of range"),
        (FACTS, {"split": 3}, "split is of another type"),
        (FACTS, {"cost": {"passes_per_step": 3}}, "missing in cost"),
    ],
)
def test_content_of_the_wrong_type_is_refused(tmp_path, file, wrong, message):
    folder = write_run(tmp_path / "run")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | wrong))
    with pytest.raises(UserError, match=message):
        Run(folder).content(file)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("k,solved_low\n1,1.5\n", r"line 2, column solved_low: 1\.5 is out of range"),
        ("k,forward_passes\n1,-3\n", "column forward_passes: -3 is out of range"),
        ("k,solved\n1.5,1\n", r"column k: 1\.5 is out of range"),
        ("k,solved\n,1\n", "column k: is out of range"),
    ],
)
def test_columns_out_of_range_are_refused(tmp_path, rows, message):
    folder = write_run(tmp_path / "run")
    (folder / PER_STEP).write_text(rows)
    with pytest.raises(UserError, match=message):
        Run(folder).table(PER_STEP)


def test_solving_imports_no_analysis(evaluated):
    code = (
        "import sys; from pir.cli.main import main;"
        f"sys.argv = ['pir', 'solve', 'run={evaluated}', 'puzzle=3 7 8 = 29', 'exit=kl'];"
        "status = main(sys.argv[1:]);"
        "print(status, 'torch' in sys.modules,"
        " [name for name in sys.modules if name.startswith('pir.analysis')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True []"


def test_the_schema_needs_no_torch():
    code = "import sys, pir.runs.schema; print({'torch', 'pir.analysis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---------------------------------------------------------------- the document


def kind_text(kind: object) -> str:
    """Returns a type as the document has it."""
    if isinstance(kind, str):
        return kind
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return f"{kind_text(typing.get_args(kind)[0])}, or nothing"
    plain, least, most = span(kind)
    origin = typing.get_origin(plain)
    if is_dataclass(plain) or origin is dict:
        return "object"
    if origin in (tuple, list):
        return "list"
    name = {str: "text", bool: "true or false"}.get(plain, plain.__name__)
    if least == float("-inf"):
        return name
    return f"{name}, {least:g} to {most:,.0f}" if most < 1e9 else f"{name}, from {least:g}"


def table(*rows: tuple[str, ...]) -> str:
    """Returns rows, the first of them the header, as Markdown."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def columns_text(columns: Mapping[str, typing.Any], word: str) -> str:
    rows = [(f"`{name}`", kind_text(each.kind), each.meaning) for name, each in columns.items()]
    return table((word, "type", "meaning"), *rows)


def described() -> tuple[str, str]:
    """Returns what the document says of files, and of their columns and keys."""
    files = table(
        ("file", "content"), *((f"`{name}`", file.meaning) for name, file in FILES.items())
    )
    parts = []
    same: dict[str, str] = {}
    for name, file in FILES.items():
        if not file.known and not file.statistics:
            continue
        word = {"json": "key", "npz": "array"}.get(name.rsplit(".", 1)[1], "column")
        text = columns_text(file.columns, word) if file.columns else ""
        if file.statistics:
            text += f"\n\n[Statistics](metrics.md), one {word} each."
        if file.after:
            text += "\n\n" + columns_text(file.after, word)
        if text in same:
            text = f"As `{same[text]}`."
        same.setdefault(text, name)
        parts.append(f"### `{name}`\n\n{text.strip()}")
    return files, "\n\n".join(parts)


def test_the_document_describes_the_schema():
    text = DOCUMENT.read_text()
    for heading, wanted in zip(("Files", "Columns and keys"), described(), strict=True):
        found = re.search(rf"## {heading}\n.*?\n\n((?:\||###).*?)(?=\n\n## |\Z)", text, re.DOTALL)
        assert found is not None, heading
        assert found[1].strip() == wanted, heading


@pytest.mark.parametrize("document", ["run_folder.md", "metrics.md"])
def test_no_document_names_a_file_that_does_not_exist(document):
    text = (DOCUMENT.parent / document).read_text()
    named = set(re.findall(r"`((?:eval/|checkpoints/)?[a-z_]+\.(?:csv|json|npz|pt))`", text))
    known = {*FILES, *(name.rsplit("/", 1)[-1] for name in FILES)}
    assert named
    assert named <= known
    assert {INFO, SUMMARY} <= known
    assert EVALUATION in FILES
