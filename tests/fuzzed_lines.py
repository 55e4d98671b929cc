"""Command lines at random: real commands and keys, values of every kind, options, nonsense."""

import random

from pir.cli.main import COMMANDS
from pir.settings.schema import SCHEMAS, EvalSettings, TrainerConfig

ODD = [
    "", "null", "true", "false", "0", "1", "-1", "1e9", "1e400", "nan", "inf", "-0.0", "1.5",
    "9223372036854775808", "100000000", "2147483648", "9" * 400, "[]", "[1,2]", "[[1],[2]]",
    "{}", "{a:1}", "{_target_: os.system}", "[", "]", "{", "}", "(", "'", '"', "'a", "\\",
    "\\\\", "${", "${x}", "${oc.env:HOME}", "$x", "~", "~/x", "~nobody_there/x", "+", "++", "@",
    "a@b", "=", "==", "a=b", ",", "a,b", "1,2", "a b", " ", "\t", "\n", "#", "%", "*", "?", ":",
    ";", "&", "|", "..", ".", "/", "//", "-", "--", "ü", "名前", "\u202e", "\x1b]0;X\x07", "\x00",
    "\udcff", "\U0001f600", "choice(1,2)", "range(3)", "glob(*)", "interval(0,1)", "sort(a,b)",
    "shuffle(a)", "cast(1)", "int(1)", "x" * 5000, "countdown", "trm", "none", "all", "auto",
    "cpu", "cpu:3", "meta", "cuda:99", "json", "text", "nosuch",
]  # fmt: skip

OPTIONS = [
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--cfg=job", "--cfg=nosuch",
    "--resolve", "--package", "-p", "--package=trainer", "-p=nosuch", "--run", "-r",
    "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-path=x",
    "--config-name", "--config-name=x", "--config-dir", "-cd", "--config-dir=nosuch",
    "--config-dir=.", "--experimental-rerun", "--experimental-rerun=x", "--info", "-i",
    "--info=config", "--info=x", "--info=searchpath", "--nosuch", "-x", "-", "--", "---",
]  # fmt: skip

HYDRA = [
    "hydra.verbose=true", "hydra.mode=MULTIRUN", "hydra/launcher=nosuch", "hydra.nosuch=1",
    "hydra.job.name=x", "hydra=null",
]  # fmt: skip

MODEL = [
    "hidden_size", "heads", "mixer", "expansion", "improvement_steps", "latent_steps", "layers",
    "dtype", "nosuch", "_target_",
]  # fmt: skip
ENV = [
    "numbers", "number_range", "targets", "use_all", "guesses", "puzzles", "size", "split",
    "_target_", "nosuch",
]  # fmt: skip
GROUPS = ["env", "model", "objective", "optim", "trainer", "logger", "exit", "experiment", "recipe",
          "recipe_pair", "recipe_objective", "objective/targets"]  # fmt: skip


def keys(command: str) -> list[str]:
    """Returns keys of a command's settings, and some that are none."""
    own = list(SCHEMAS[command].__annotations__)
    if "trainer" in own:
        own += [f"trainer.{key}" for key in TrainerConfig.__annotations__]
    if "eval" in own:
        own += [f"eval.{key}" for key in EvalSettings.__annotations__]
    own += [f"env.{key}" for key in ENV] if "env" in own else []
    own += [f"model.{key}" for key in MODEL] if "model" in own else []
    return own


def line(seed: int, safe: dict[str, list[str]]) -> list[str]:
    """Returns the words of one line, the same for the same seed.

    Args:
        seed: any number.
        safe: by command, words to begin with that keep a line which is right short.
    """
    draw = random.Random(seed)
    command = draw.choice([*COMMANDS, "train", "train", "show", "eval"])
    words = list(safe.get(command, []))
    for _ in range(draw.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        words.append(_word(draw, command))
    if draw.random() < 0.1 and words:
        words.append(draw.choice(words))
    if draw.random() < 0.02:
        command = draw.choice(ODD)
    return [command, *words]


def _word(draw: random.Random, command: str) -> str:
    kind = draw.random()
    if kind < 0.18:
        return draw.choice(OPTIONS)
    if kind < 0.22:
        return draw.choice(HYDRA)
    if kind < 0.28:
        return draw.choice(ODD)
    if kind < 0.36:
        return f"{draw.choice(GROUPS)}={draw.choice(ODD)}"
    key = draw.choice(keys(command))
    if draw.random() < 0.12:
        key = draw.choice(["+", "++", "~", "@", "+~", "a.", " "]) + key
    if draw.random() < 0.05:
        key = key[:-1] + draw.choice("xyz@:/. ")
    if draw.random() < 0.04:
        return key
    return f"{key}={draw.choice(ODD)}"
