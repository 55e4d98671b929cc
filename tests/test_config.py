"""Every file of settings composes, is commented, and agrees with the code it configures."""

import inspect
import sys
import types
from dataclasses import asdict, fields
from pathlib import Path

import pir.configs
import pytest
import torch
import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf

from pir.components import Components, build_puzzle
from pir.errors import UserError
from pir.models.puzzle_model import PuzzleModel, Shared
from pir.models.trm import TRM
from pir.objectives import Term, Weighted
from pir.puzzle import Puzzle
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.reasoner import Reasoner
from pir.runs.loggers import Logger
from pir.settings.build import build
from pir.settings.model import ModelSettings
from pir.settings.schema import SCHEMAS
from pir.training.build import build_objective
from tests.conftest import compose_config

ROOT = Path(pir.configs.__file__).parent
FILES = sorted(ROOT.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_key_is_explained(file):
    """A comment stands above every setting, or above the block that it is part of."""
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# ")
    explained = False
    for line in lines:
        text = line.strip()
        if text.startswith(("#", "_target_", "defaults", "- ", "hydra:")) or line.endswith(":"):
            explained = True
        elif text and not line.startswith(" "):
            assert explained, f"{file.name}: {line}"
            explained = False


def load(file):
    """Reads a file of settings, with those that its defaults list takes from the same folder."""
    node = yaml.safe_load(file.read_text())
    base = {}
    for name in node.pop("defaults", []):
        if name == "_shared":
            base |= asdict(ModelSettings())
        elif isinstance(name, str) and name != "_self_":
            base |= load(file.with_name(f"{name}.yaml"))
    return base | node


def components(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from components(value)


PAPER = ("hidden_size", "heads", "mixer", "expansion", "improvement_steps", "halt_head")
OF_A_SIZE = {
    "trm_7m": (*PAPER, "cycles", "latent_steps"),
    "trm_5m": (*PAPER, "cycles", "latent_steps"),
    "hrm_27m": (*PAPER, "high_layers", "low_layers", "continue_head"),
    "looped": ("improvement_steps",),
    "deep_thinking": ("improvement_steps", "recall"),
    "recurrent_depth": ("hidden_size", "improvement_steps"),
    "dual": ("hidden_size", "mixer"),
    "soft_embedding": ("mixer",),
    "dual_lm": ("mixer", "improvement_steps", "backbone", "name"),
    "feedforward": ("improvement_steps",),
    "feedforward_deep": ("improvement_steps", "layers"),
}
"""What a model's file sets otherwise than its class, by what the file is for."""

OWN = {"maze_hard": {"augment_file": False}}
"""Settings of files of puzzles that one env has otherwise than its class."""


@pytest.mark.parametrize(
    "group", ["env", "model", "objective", "objective/targets", "optim", "logger", "exit"]
)
def test_settings_agree_with_the_code(group):
    """A component's file names exactly its arguments, with the same defaults as in Python."""
    for file in sorted((ROOT / group).glob("[!_]*.yaml")):
        if group == "objective":
            settings = OmegaConf.to_container(compose_config(f"objective={file.stem}").objective)
        else:
            settings = load(file)
        for node in components(settings):
            target = get_class(node["_target_"])
            if not target.__module__.startswith("pir."):
                continue
            parameters = dict(inspect.signature(target).parameters)
            if issubclass(target, PuzzleModel):
                parameters |= inspect.signature(ModelSettings).parameters
            if issubclass(target, FilePuzzle):
                del parameters["file"]
                of_file = {n: node.pop(n) for n in FileSettings.__annotations__ if n in node}
                assert {"puzzles", "train_puzzles", "skip_faulty"} <= of_file.keys(), file.name
                default = {n: getattr(target(), n) for n in of_file} | OWN.get(file.stem, {})
                assert of_file == default, file.name
            names = [n for n in parameters if n not in ("puzzle", "params", "shared")]
            if issubclass(target, Term):
                names += [each.name for each in fields(Weighted) if each.name != "term"]
                parameters |= inspect.signature(Weighted).parameters
            assert set(node) - {"_target_"} == set(names), file.name
            for name in names:
                default = parameters[name].default
                if group == "env" and file.stem != target.__name__.lower():
                    continue  # one class may serve several puzzles, such as Sudoku of any size
                if group == "model" and name in OF_A_SIZE.get(file.stem, ()):
                    continue
                if default is not inspect.Parameter.empty and "objective" not in str(file):
                    value = node[name]
                    value = tuple(value) if isinstance(value, list) else value
                    value = float(value) if isinstance(default, float) else value
                    assert value == default, f"{file.name}: {name}"


def test_signatures_take_what_all_reasoners_share():
    assert Shared.__annotations__ == ModelSettings.__annotations__


@pytest.mark.parametrize("command", SCHEMAS)
def test_commands_list_the_keys_of_their_schema(command):
    written = set(yaml.safe_load((ROOT / f"{command}.yaml").read_text())) - {"defaults", "hydra"}
    chosen = {"env", "model", "objective", "optim", "trainer", "logger", "exit", "choices"}
    assert set(SCHEMAS[command].__annotations__) - chosen == written - chosen


@pytest.mark.parametrize("group", ["objective", "optim", "logger"])
def test_every_choice_builds(group, monkeypatch):
    fake = types.SimpleNamespace()
    for package in ("torch.utils.tensorboard", "wandb", "mlflow", "trackio"):
        monkeypatch.setitem(sys.modules, package, fake)
    for file in sorted((ROOT / group).glob("[!_]*.yaml")):
        config = compose_config(f"{group}={file.stem}")
        parameters = Components.build(config, build_puzzle(config)).reasoner.trained_parameters()
        if group == "objective":
            build_objective(config.objective)
        elif group == "optim":
            build(config.optim, group, torch.optim.Optimizer, params=parameters)
        else:
            build(config.logger, group, Logger)


def node(**values):
    return OmegaConf.create({"_target_": "pir.models.trm.TRM", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": "wide"}, "m.hidden_size=wide: allowed is a whole number"),
        ({"hidden_size": True}, "m.hidden_size=True: allowed is a whole number"),
        ({"halt_head": 1}, "m.halt_head=1: allowed is true or false"),
        ({"expansion": "big"}, "m.expansion=big: allowed is a finite number"),
        ({"hiden_size": 3}, "m.hiden_size is unknown; did you mean hidden_size?"),
        ({"hidden_size": [64, 128]}, "allowed is a whole number"),
        ({"hidden_size": {"a": 1}}, "allowed is a whole number"),
        ({"hidden_size": None}, "allowed is a whole number"),
        ({"puzzle": 1}, "m.puzzle is unknown"),
        ({"_target_": "pir.nothing.Here"}, "no such class"),
        ({"_target_": "pir.envs.countdown.Countdown"}, "is no pir.reasoner.Reasoner"),
    ],
)
def test_bad_components_are_refused(values, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        build(node(**values), "m", Reasoner, puzzle=None)


@pytest.mark.parametrize("key", ["number_range", "use_all", "numbers"])
def test_no_setting_can_name_another_class_to_call(key, tmp_path):
    attack = {"_target_": "subprocess.Popen", "args": ["touch", str(tmp_path / "canary")]}
    config = OmegaConf.create({"_target_": "pir.envs.countdown.Countdown", key: attack})
    with pytest.raises(UserError):
        build(config, "env", Puzzle)
    term = {"_target_": "pir.objectives.Objective", "terms": {"a": attack}}
    with pytest.raises(UserError, match="subprocess is not imported"):
        build_objective(OmegaConf.create(term))
    optim = OmegaConf.create({"_target_": "torch.optim.AdamW", "lr": attack})
    with pytest.raises(UserError, match="takes no component"):
        build(optim, "optim", torch.optim.Optimizer, params=[])
    assert not (tmp_path / "canary").exists()


def test_missing_arguments_are_named():
    with pytest.raises(UserError, match=r"m\.puzzle must be given"):
        build(node(), "m", TRM)
    with pytest.raises(UserError, match="no _target_"):
        build(OmegaConf.create({}), "m", TRM)
