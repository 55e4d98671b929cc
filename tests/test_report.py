"""The report is one page that needs nothing else, whatever the run folder holds."""

import csv
import itertools
import json
import re
import shlex
import shutil
import sys
from html.parser import HTMLParser

import pytest
from pir.analysis.figures.kinds import KINDS
from pir.analysis.pages.report import report, write_report
from pir.analysis.reading.runs import Run

from pir.cli.main import main
from pir.errors import UserError
from tests.run_folders import STATISTICS, write_csv, write_run

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = "<script>alert(1)</script>&\"'$x^{"


class Page(HTMLParser):
    """Reads a page, and refuses one whose elements are not closed in order."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def content(folder):
    return report(Run(folder))


@pytest.fixture(scope="module")
def page(content):
    return Page(content)


def test_every_figure_with_its_sentence_and_command(page, folder):
    assert [attributes["id"] for attributes in page.all("figure")] == list(KINDS)
    text = " ".join(page.text).replace("\xa0", " ")
    for name, kind in KINDS.items():
        sentence = kind.describe(Run(folder))
        assert sentence in text
        assert f"pir plot run={folder} kind={name}" in text
    labels = [attributes["aria-label"].replace("\xa0", " ") for attributes in page.all("svg")]
    assert all(KINDS[name].describe(Run(folder)) in labels[i] for i, name in enumerate(KINDS))


def test_every_statistic_with_meaning_and_unit(page):
    for name, meaning, unit, _ in STATISTICS:
        for word in (name.replace("_", " "), meaning, unit):
            assert word in page.text, word


def test_the_numbers_are_those_of_the_run(page):
    text = " ".join(page.text).replace("\xa0", " ")
    for words in (
        "Solved 80.0 % 95 % interval 75.0 % to 85.0 %, after 3 steps",
        "Dead compute 60.0 %",
        "Live depth 1.2 of 3 steps gain more than 0.01 in score",
        "Steps to solve 1.25",
        "Fixed points 90.0 %",
        "FLOPs 7.5 million",
        "Milliseconds 3.6",
        "Saved by stopping early 50.0 %",
        "Floor: masked random 2.3 %",
        "the model, one cell blank 99.0 % 98.0 % to 100.0 % 100",
    ):
        assert words in text, words


def test_it_has_a_title_the_command_the_settings_examples_and_symbols(page, content, folder):
    assert "<title>countdown, trm, set_likelihood</title>" in content
    assert "<title>Mine &amp; yours</title>" in report(Run(folder), "Mine & yours")
    text = " ".join(page.text).replace("\xa0", " ")
    assert "pir train env=countdown seed=" in text
    assert "All settings" in text
    assert "objective.name set_likelihood" in text
    assert "<pre>1 2!\n3 0\n</pre><small>the start: score 0</small>" in content
    assert "<pre>1 2!\n3 9\n</pre><small>step 9: solved</small>" in content
    assert content.count("<pre>") == 8
    assert "2 more before the last" in text
    for symbol in ("KL(c || u)", "A(y*)", "y*", "overshoot"):
        assert f"<dt>{symbol}</dt>" in content


def test_the_page_stands_alone(page, content):
    assert len(content.encode()) < 3_000_000
    drawn_as_pixels = re.compile(r"data:image/png;base64,[^\"]*")
    words = drawn_as_pixels.sub("", content)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|src=", words)
    for _, attributes in page.elements:
        for name in ("href", "src", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), attributes
    assert not re.search(r"url\((?!#)", content)


def test_ids_are_unique_and_references_lead_somewhere(page, content):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")]
    used += re.findall(r"url\(#([^)]+)\)", content)
    assert used
    assert set(used) <= set(ids)


def test_colours_follow_the_page(content):
    drawn = "".join(re.findall(r"<svg.*?</svg>", content, re.S))
    for colour in ("#1b1b1d", "#5e5e61", "#e4e4e7", "#fefefe", "#000000", "#0072b2"):
        assert colour not in drawn.lower(), colour
    assert "prefers-color-scheme: dark" in content
    defined = set(re.findall(r"(--[\w-]+):", content))
    assert set(re.findall(r"var\((--[\w-]+)\)", content)) <= defined


def test_it_can_be_heard_and_navigated(page, content):
    assert page.all("html") == [{"lang": "en"}]
    assert content.startswith("<!doctype html>")
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attributes["scope"] in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    assert all(attributes["role"] == "img" for attributes in page.all("svg"))


def test_hostile_words_stay_words(tmp_path):
    folder = write_run(tmp_path / "ein Lauf" / "<img src=x onerror=y> \udcff$", env=HOSTILE[:8])
    facts = json.loads((folder / "eval/eval.json").read_text())
    facts |= {"env": HOSTILE, "rating_name": HOSTILE, "model": HOSTILE, "objective": HOSTILE}
    facts["floors"] = {HOSTILE: {"solved": 0.1}}
    facts["best_exit"]["rule"] = HOSTILE
    facts["statistics"][0]["meaning"] = HOSTILE
    facts["statistics"][0]["unit"] = HOSTILE
    (folder / "eval/eval.json").write_text(json.dumps(facts))
    (folder / "info.json").write_text(json.dumps({"processor": HOSTILE, "commit": HOSTILE}))
    write_report(Run(folder), tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert page.all("script") == page.all("img") == []
    assert "".join(page.text).count(HOSTILE) >= 6


def test_missing_data_is_named_with_its_command(tmp_path):
    folder = write_run(tmp_path / "run", labels=False, extra=False)
    for file in ("eval/latents.npz", "info.json", "eval/per_outcome.csv"):
        (folder / file).unlink()
    facts = json.loads((folder / "eval/eval.json").read_text())
    for key in ("floors", "one_blank", "cost", "best_exit", "live_depth"):
        facts[key] = None
    (folder / "eval/eval.json").write_text(json.dumps(facts))
    page = Page(report(Run(folder)))
    drawn = {attributes["id"] for attributes in page.all("figure")}
    assert drawn == {
        "improvement", "loss", "passes", "waterfall", "dead-compute", "difficulty", "statistics",
    }  # fmt: skip
    text = " ".join(page.text)
    settings = "eval.guidance=[0.5,1,1.5,2,3]", "eval.step_size=[0.25,0.5,1,1.5]"
    command = shlex.join(["pir", "eval", f"run={folder}", *settings])
    assert f"{command} eval.breadth=8 eval.exit=all" in text
    assert "(needs labels)" in text
    assert "Live depth" not in text
    assert "nan" not in text.split()


def test_undefined_numbers_are_dashes(tmp_path):
    """Without labels, and where the policy's move is undefined too."""
    folder = write_run(tmp_path / "run", labels=False)
    for file in ("per_step", "per_outcome", "guidance"):
        with (folder / f"eval/{file}.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        hidden = {name: "nan" for name in ("kl", "nll") if name in rows[0]}
        write_csv(folder / f"eval/{file}.csv", [row | hidden for row in rows])
    page = Page(report(Run(folder)))
    assert "nan" not in re.findall(r"\w+", " ".join(page.text))
    assert page.text.count("–") >= 9


def test_by_command_and_the_same_every_time(folder, content, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(["report", f"run={folder}"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_text(encoding="utf-8") == content
    assert main(["report", f"run={folder}", f"out={tmp_path}/x.txt"]) == 2
    assert "the ending must be .html" in capsys.readouterr().err
    assert main(["report", "run=/nonexistent"]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_real_evaluation_fits(tiny_run, tmp_path, capsys, monkeypatch):
    """What evaluation writes today is what figures and report read."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    settings = ("eval.guidance=[0.5,1]", "eval.step_size=[0.5,1]", "eval.breadth=2")
    words = ["eval", f"run={folder}", *settings, "eval.exit=all", "eval.puzzles=30"]
    assert main([*words, "output=json"]) == 0
    result = json.loads(capsys.readouterr().out)
    page = Page(report(Run(folder)))
    assert [attributes["id"] for attributes in page.all("figure")] == list(KINDS)
    for statistic in result["statistics"]:
        assert statistic["name"].replace("_", " ") in page.text
    assert "Several starts per puzzle" in page.text


def test_a_damaged_file_leaves_the_old_page(folder, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("old")
    damaged = write_run(tmp_path / "run", extra=False)
    (damaged / "eval/strata.csv").write_text("stratum\n")
    with pytest.raises(UserError, match=r"strata\.csv is damaged"):
        write_report(Run(damaged), out)
    assert out.read_text() == "old"
