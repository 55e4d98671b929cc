"""`pir COMMAND --help`: sentences, choices that a command takes, settings with their meaning."""

import sys

import pytest

from pir.cli.main import COMMANDS, main
from pir.settings import plugins
from pir.settings.describe import comments, composed, documented
from pir.settings.schema import SCHEMAS, register_schemas
from pir.settings.training import TrainerSettings


def test_every_setting_has_a_meaning():
    register_schemas()
    plugins.forget()
    made = ["model=hrm", "objective=awr", "env=queens", "optim=adamw", "logger=wandb"]
    for command, *words in [*((name,) for name in SCHEMAS), ("train", *made)]:
        known = composed(command, words)
        assert known.settings()
        assert not [key for key in known.settings() if len(known.meaning(key)) < 5], (
            command,
            words,
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_page(pir_here, command):
    lines = pir_here(command, "--help").stdout.splitlines()
    assert lines[0][0].isupper()
    assert any(line.startswith(f"  pir {command} ") for line in lines), "an example"
    assert max(map(len, lines)) <= 80
    assert len(lines) < 110
    assert "_shared" not in "".join(lines)


def test_only_choices_that_a_command_takes(pir_here):
    text = pir_here("train", "--help").stdout
    assert "model             deep_thinking, dual" in text
    assert "countdown*, graph" in text
    assert "trainer.max_minutes=9.0" in text
    assert "countdown*, graph" in pir_here("show", "-h").stdout
    assert "deep_thinking" not in pir_here("show", "-h").stdout
    assert "Choices" not in pir_here("plot", "--help").stdout


def test_a_group_with_the_choice_made(pir_here):
    text = pir_here("train", "model=looped", "--help", "model").stdout
    assert "model=looped is chosen" in text
    assert "width D of the latents" in text
    assert "model.latents=" not in text
    assert "env.height=7" in pir_here("train", "--help", "env", "env=maze", "env.height=7").stdout
    assert "Every step a K-th of the lanes" in pir_here("train", "--help", "lanes").stdout
    assert "checks an installation" in pir_here("train", "--help", "experiment").stdout
    one = pir_here("train", "--help", "trainer.patience").stdout
    assert "trainer.patience=10" in one
    assert "batch_size" not in one


def test_the_settings_of_a_choice_that_is_typed(pir_here):
    text = pir_here("train", "--help", "objective=ppo").stdout
    own = text.partition("Settings of objective=ppo:")[2]
    assert "objective.terms.reward.clip=[0.2,0.28]" in own
    assert "set_likelihood.limit" not in text
    assert "model.hidden_size=128" in text
    assert "\n  model." not in own


def test_kinds_of_figures_have_a_sentence_each(pir_here):
    text = pir_here("plot", "--help").stdout
    assert "What every step gains" in text
    assert "dead-compute" in text


def test_a_group_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(["train", "--help", "trainr"]) == 2
    assert "has no such group; did you mean trainer?" in capsys.readouterr().err
    assert main(["show", "--help", "model"]) == 2
    assert "(allowed: env, index, out, seed, split)" in capsys.readouterr().err
    assert main(["train", "--help", "env", "model"]) == 2
    assert "one name at a time" in capsys.readouterr().err


def test_settings_of_a_folder_are_explained_too(pir_here, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text(
        "# My own.\n_target_: pir.envs.countdown.Countdown\n# how many\n# there are\nnumbers: 4\n"
    )
    text = pir_here("train", "--help", "env", "env=mine", f"--config-dir={tmp_path}").stdout
    assert "mine       My own." in text
    assert "env.numbers=4\n      how many there are" in text


def test_comments_belong_to_the_key_below():
    text = "# the file\n# a b\na: 1\nb:\n  # two\n  # lines\n  c: 2\n\n  # lost\n\n  d: 3\n"
    assert comments(text) == {"a": "a b", "b.c": "two lines"}
    known = documented(TrainerSettings)
    assert known["patience"].endswith("the run ends.")
    assert "from 32, 64, 128 ... up to it" in known["late_steps"]
    assert "UserError" not in known


def test_list_takes_the_name_of_a_group_too(pir_here):
    assert pir_here("list", "optim").stdout == pir_here("list", "optims").stdout
