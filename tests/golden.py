"""Golden loss curves: 20 optimizer steps of every objective preset, on one thread in float32.

`make golden` rewrites them; a change that is not meant to change training leaves them as they are.
"""

import json
import tempfile
from pathlib import Path

from pir.run_folder import RunFolder, read_rows
from tests.conftest import compose_config

FILE = Path(__file__).parent / "golden" / "losses.json"
OBJECTIVES = ("deep_supervision", "awr", "set_likelihood")


def loss_curve(objective: str, folder: Path) -> list[float]:
    """Trains 20 steps and returns the loss of every step."""
    from pir.train import Trainer

    config = compose_config(
        f"objective={objective}",
        "model.dtype=float32",
        "trainer.max_optimizer_steps=20",
        "trainer.log_every=1",
        "trainer.eval_every=100",
    )
    run = RunFolder(folder)
    run.create(config, ["pir", "train"])
    Trainer(config, run).train()
    return [float(row["loss"]) for row in read_rows(run.metrics)]


def main() -> None:
    """Rewrites the file."""
    with tempfile.TemporaryDirectory() as folder:
        curves = {name: loss_curve(name, Path(folder) / name) for name in OBJECTIVES}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
