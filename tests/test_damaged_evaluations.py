"""Evaluations that are old, damaged or not finite: named, or drawn as far as they go."""

import io
import json

import numpy as np
import pytest
from pir.analysis.figures.kinds import latents, save_kind
from pir.analysis.reading.runs import Run

from pir.errors import UserError
from tests.run_folders import write_run


def test_an_old_evaluation_still_draws_its_curve(tmp_path):
    folder = write_run(tmp_path / "old")
    facts = json.loads((folder / "eval/eval.json").read_text())
    old = {key: facts[key] for key in ("env", "split", "puzzles", "trained_steps")}
    (folder / "eval/eval.json").write_text(json.dumps(old | {"improvement_steps": 6}))
    for file in ("steps.npz", "latents.npz", "cells.csv", "strata.csv", "per_outcome.csv"):
        (folder / "eval" / file).unlink()
    assert Run(folder).facts.statistics == ()
    for kind in ("improvement", "waterfall", "statistics"):
        save_kind(kind, [folder], tmp_path / f"{kind}.png")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("eval/per_step.csv", "k,solved\n1,x\n", "per_step.csv is damaged: column solved"),
        ("eval/per_step.csv", "k,solved\n1\n", "per_step.csv is damaged: line 2: 1 cells"),
        ("eval/per_step.csv", "", "per_step.csv is damaged"),
        ("eval/per_step.csv", "k,gain\n1,2\n", "per_step.csv has no column solved"),
        ("eval/eval.json", "{", "eval.json is damaged"),
        ("eval/eval.json", "[]", "eval.json is damaged: it holds no object"),
        ("eval/eval.json", '{"env": "a"}', "improvement_steps, puzzles, split, trained_steps miss"),
        ("config.yaml", "a: [", "config.yaml is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
    folder = write_run(tmp_path / "run")
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        save_kind("improvement", [folder], tmp_path / "out.png")


def test_damaged_arrays_are_named(tmp_path):
    folder = write_run(tmp_path / "run")
    for file, kind in (("steps.npz", "dead-compute"), ("latents.npz", "latents")):
        whole = (folder / "eval" / file).read_bytes()
        lone_array = io.BytesIO()
        np.save(lone_array, np.zeros(3))
        for content in (whole[: len(whole) // 2], b"", b"PK", lone_array.getvalue()):
            (folder / "eval" / file).write_bytes(content)
            with pytest.raises(UserError, match=f"{file} is damaged"):
                save_kind(kind, [folder], tmp_path / "out.png")
    np.savez(folder / "eval/latents.npz", latents=np.zeros((3, 2)), solved=np.zeros(3))
    with pytest.raises(UserError, match="shapes that do not fit"):
        save_kind("latents", [folder], tmp_path / "out.png")
    object_array = np.array([{}], dtype=object)
    np.savez(folder / "eval/latents.npz", latents=object_array, solved=object_array)
    with pytest.raises(UserError, match="array latents holds no numbers"):
        save_kind("latents", [folder], tmp_path / "out.png")


def test_states_that_are_not_finite_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run")
    content = dict(np.load(folder / "eval/latents.npz"))
    content["latents"][1, 2:] = np.nan
    np.savez(folder / "eval/latents.npz", **content)
    states, solved = latents.read_latents(Run(folder))
    assert states == pytest.approx(np.delete(content["latents"], 1, 0))
    assert solved.tolist() == np.delete(content["solved"], 1).tolist()
    save_kind("latents", [folder], tmp_path / "out.png")
    content["latents"][:, 1] = np.inf
    np.savez(folder / "eval/latents.npz", **content)
    with pytest.raises(UserError, match="no puzzle whose latent states are all finite"):
        save_kind("latents", [folder], tmp_path / "out.png")


@pytest.mark.parametrize(
    "wrong",
    [{"puzzles": "many"}, {"puzzles": [1]}, {"statistics": [{}]}, {"floors": [1]}, {"cost": {}}],
)
def test_facts_of_the_wrong_type_are_refused(tmp_path, wrong):
    folder = write_run(tmp_path / "run")
    facts = json.loads((folder / "eval/eval.json").read_text())
    (folder / "eval/eval.json").write_text(json.dumps(facts | wrong))
    with pytest.raises(UserError, match=r"eval\.json is damaged"):
        _ = Run(folder).facts
