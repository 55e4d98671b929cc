"""Golden files: fingerprints of every puzzle's first instances, and loss curves.

A curve is 20 optimizer steps of an objective preset on one thread in float32.

`make golden` rewrites them; a change that is not meant to change training leaves them as they are.
"""

import json
import tempfile
from pathlib import Path

from pir.laws.checks import fingerprint
from pir.runs.folder import RunFolder
from tests.conftest import compose_config
from tests.puzzles import VARIANTS
from tests.training_runs import read_rows

FILE = Path(__file__).parent / "golden" / "losses.json"
FINGERPRINTS = Path(__file__).parent / "golden" / "fingerprints.json"
BANDITS = ("objective.terms.reward.episode=bandits", "model.written_answer=false")
OBJECTIVES = {
    "deep_supervision": (),
    "dis": (),
    "input_curriculum": (),
    "cfg": (),
    "awr": (),
    "group_relative": BANDITS,
    "ppo": BANDITS,
    "set_likelihood": (),
    "margin": (),
    "exit_distribution": (),
    "recurrent_depth": (),
    "progressive": (),
    "awr_revisions": (),
    "group_relative revisions": (),
    "ppo revisions": (),
    "policy_iteration": (),
    "unrolled": (),
    "truncated": ("objective.backprop_steps=2", "model.improvement_steps=3"),
}
"""Names of curves, an objective first, with the settings that it has beside it."""


def loss_curve(name: str, folder: Path) -> list[float]:
    """Trains 20 steps and returns the loss of every step."""
    from pir.training.build import build_trainer

    config = compose_config(
        f"objective={name.split()[0]}",
        *OBJECTIVES[name],
        "model.dtype=float32",
        "model.number_features=false",
        "trainer.max_optimizer_steps=20",
        "trainer.log_every=1",
        "trainer.eval_every=100",
    )
    run = RunFolder(folder)
    run.create(config, ["pir", "train"])
    build_trainer(config, run).train()
    return [float(row["loss"]) for row in read_rows(run.metrics)]


def main() -> None:
    """Rewrites the file."""
    with tempfile.TemporaryDirectory() as folder:
        curves = {name: loss_curve(name, Path(folder) / name) for name in OBJECTIVES}
    FILE.write_text(json.dumps(curves, indent=1) + "\n")
    prints = {name: fingerprint(make()) for name, make in VARIANTS.items()}
    FINGERPRINTS.write_text(json.dumps(prints, indent=1) + "\n")


if __name__ == "__main__":
    main()
