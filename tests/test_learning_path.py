"""How far a reader has to go: the modules that one update enters, the puzzle's left out."""

import re
import sys
import textwrap
from pathlib import Path

from pir.training.filling import fill_lanes
from tests.training_runs import start


def modules_of_an_update(trainer) -> set[str]:
    entered = set()

    def look(frame, event, argument):
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("pir.") and not name.startswith("pir.envs."):
            entered.add(name)

    fill_lanes(trainer)
    before = sys.getprofile()
    sys.setprofile(look)
    try:
        trainer.improve_lanes()
    finally:
        sys.setprofile(before)
    return entered


def test_an_update_enters_few_modules(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", "objective=awr")
    measured = modules_of_an_update(trainer)
    monkeypatch.setattr(trainer, "_record", lambda *_: None)
    learning = modules_of_an_update(trainer)
    assert measured > learning
    assert len(learning) <= 12, sorted(learning)


def test_the_loop_in_the_readme_is_the_one_that_runs():
    block = Path("README.md").read_text().split("## The training loop")[1].split("```python\n")[1]
    loop = block.split("```")[0]
    assert 12 < len(loop.splitlines()) <= 25
    assert "\n\n" not in loop
    assert textwrap.indent(loop, " " * 8) in Path("pir/training/trainer.py").read_text()


POINTED_AT = {
    "pir/training/trainer.py": "improve_lanes",
    "pir/models/trm.py": "step",
    "pir/objectives/advantage_weighted.py": "loss",
    "pir/ledger/cells.py": "dead",
}
"""The functions that README leads to, by line."""


def test_links_to_lines_lead_to_the_functions_that_they_name():
    links = re.findall(r"\]\((\S+?\.py)#L(\d+)\)", Path("README.md").read_text())
    assert {path for path, _ in links} == set(POINTED_AT)
    for path, number in links:
        line = Path(path).read_text().splitlines()[int(number) - 1]
        assert line.strip().startswith(f"def {POINTED_AT[path]}("), f"{path}#L{number}: {line}"
