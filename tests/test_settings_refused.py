"""Settings that mean nothing are refused at once, and the message says what does."""

import re
import sys
from typing import Any

import pytest
from omegaconf import OmegaConf

from pir.cli.main import main
from pir.cli.words import part, prepare
from pir.settings.catalog import choices
from pir.settings.describe import composed
from pir.settings.schema import kind_of, register_schemas
from tests.conftest import TINY

JOB = ["--cfg", "job"]
PAIRS = "allowed are maze_hard_trm, maze_trm, none, "
GUIDANCE = "allowed is a list of numbers, such as [0.5,1]\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # Hydra's + opens what the schema closes
        (["train", *JOB, "+trainer.foo=3"], "trainer.foo is no setting (allowed: batch_size"),
        (["train", *JOB, "++trainer.max_step=3"], "trainer.max_step is no setting; did you mean"),
        (["train", *JOB, "+trainer.threads.foo=3"], "trainer.threads.foo is no setting"),
        (["train", *JOB, "++run.x=1"], "run.x is no setting (allowed: device, env"),
        (["train", *JOB, "+recipe.x=1"], "recipe.x is no setting"),
        (["eval", "run=x", "+eval.foo=3"], "eval.foo is no setting (allowed: batch_size"),
        # and its ~ removes what must be there
        (["train", *JOB, "~env"], "~env: env cannot be removed"),
        (["train", *JOB, "~model=trm"], "~model=trm: model cannot be removed"),
        (["train", *JOB, "~trainer.max_minutes"], "trainer.max_minutes cannot be removed"),
        (["show", *JOB, "~env"], "env cannot be removed"),
        # recipes that are not there
        (["train", *JOB, "recipe=nonsense"], "recipe=nonsense: allowed are countdown, "),
        (["train", *JOB, "recipe=null"], "recipe=null: allowed are countdown, "),
        (["train", "recipe_pair=nonsense"], f"recipe_pair=nonsense: {PAIRS}"),
        (["train", "recipe_objective="], "recipe_objective=: allowed are none, sudoku9"),
        (["train", "-m", "recipe_pair=none,foo"], f"recipe_pair=foo: {PAIRS}"),
        (["train", "-m", "recipe_pair=choice(none,'foo')"], f"recipe_pair=foo: {PAIRS}"),
        (["train", "-m", "recipe=none,null"], "recipe=null: allowed are countdown, "),
        # values of another kind
        (["train", *JOB, "seed=null"], "seed=null: allowed is a whole number\n"),
        (["train", *JOB, "trainer.max_minutes=abc"], "=abc: allowed is a number or null\n"),
        (["eval", "run=x", "eval.guidance=0.5"], f"eval.guidance=0.5: {GUIDANCE}"),
        (["eval", "run=x", "eval.guidance={a:1}"], f"eval.guidance={{a:1}}: {GUIDANCE}"),
        (["eval", "run=x", "eval.step_size=null"], f"eval.step_size=null: {GUIDANCE}"),
        # several values
        (
            ["eval", "run=x", "eval.exit=verifier,kl"],
            "eval.exit=verifier,kl: several values are written eval.exit=[verifier,kl]\n",
        ),
        (["eval", "run=x", "env.clues=24,25"], "are written env.clues=[24,25]\n"),
        (
            ["train", *JOB, "env.hide=1,2", "env=queens"],
            "several values are written env.hide=[1,2]; -m trains a run for each\n",
        ),
        (["train", *JOB, "seed=1,2"], "seed=1,2: allowed is one value; -m trains a run for each\n"),
        # Hydra's own
        (["train", *JOB, "hydra.foo=1"], "hydra.foo is no setting of Hydra's (`pir train --cfg h"),
        (["train", *JOB, "+hydra.job.foo=1"], "hydra.job.foo is no setting of Hydra's"),
        (["train", *JOB, "hydra.launcher.foo=1"], "hydra.launcher.foo is no setting of Hydra's"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_at_once(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out
    assert "\\" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "word",
    [
        "+objective.terms.halting._target_=pir.objectives.Halting",
        "+model.backbone.config.n_layer=2",
        "+trainer.lanes.shape=1",
        "+hydra.job.env_set.NAME=1",
        "hydra.job.config.override_dirname.kv_sep=:",
        "hydra.launcher.n_jobs=2",
        "+objective/targets@objective.terms.value.targets=masking",
        "~env.numbers",
        "~experiment",
        "recipe_pair=none",
        "recipe='sudoku4'",
    ],
)
def test_free_parts_stay_free(word):
    assert prepare("train", [word], {})


def test_recipes_of_a_sweep_may_be_a_pattern():
    assert prepare("train", ["recipe_pair=glob(maze*)"], part(["-m"])[1])


def test_kinds():
    assert kind_of("train", "trainer.max_minutes") == float | None
    assert kind_of("eval", "eval.guidance") == list[float]
    assert kind_of("train", "env.any.thing") is Any
    assert kind_of("eval", "trainer") is kind_of("train", "trainer.x") is None


def test_what_a_recipe_sets_and_another_choice_lacks(pir_here, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tiny = [word for word in TINY if "latent_steps" not in word]
    for words, file, key in (
        (["env=graph", "optim=adamw"], "recipe/graph", "optim.adamw_lr"),
        (["experiment=maze_hard", "model=hrm"], "experiment/maze_hard", "model.latent_steps"),
        # its own file names another
        (["experiment=maze_perfect_gpu", "model=looped"], "experiment/maze_perfect",
         "model.latent_steps"),
    ):  # fmt: skip
        said = pir_here("train", *tiny, *words, code=2).stderr
        assert f"{key} is unknown: {file}.yaml sets it, '~{key}' leaves it out" in said
        left = pir_here("train", *words, f"~{key}", *JOB).stdout
        assert f"  {key.partition('.')[2]}:" not in left
    assert "unknown (" in pir_here("train", *tiny, "+optim.foo=1", code=2).stderr
    assert not list(tmp_path.iterdir())


def test_what_leaves_out_every_recipe():
    (told,) = (row["summary"] for row in choices("recipe") if row["name"] == "none")
    register_schemas()
    others = re.findall(r"\w+=none", told)
    config = composed("train", ["env=sudoku9", "recipe=none", *others]).config
    assert OmegaConf.is_missing(config.trainer, "batch_size")
    assert config.model.hidden_size == 128


@pytest.mark.parametrize("words", [["check-env", "countdown", "maze"], ["list", "envs", "models"]])
def test_a_second_word_is_refused(pir_here, words):
    assert "takes one word at a time, not " in pir_here(*words, code=2).stderr
