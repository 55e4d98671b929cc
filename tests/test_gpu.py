"""The same laws on a CUDA device; skipped where there is none."""

import pytest
import torch

from pir.run_folder import RunFolder
from pir.train import Trainer
from tests.conftest import compose_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("objective", ["deep_supervision", "awr", "set_likelihood"])
def test_a_run_trains_and_resumes_on_cuda(tmp_path, objective):
    options = [f"objective={objective}", "device=cuda"]
    for steps in (6, 12):
        config = compose_config(*options, f"trainer.max_optimizer_steps={steps}")
        run = RunFolder(tmp_path / "run")
        trainer = Trainer(config, run)
        if steps == 6:
            run.create(config, ["pir", "train"])
        else:
            trainer.resume()
        assert trainer.train()
    assert trainer.optimizer_step == 12
    assert trainer.lanes is not None
    assert trainer.lanes.logits.device.type == "cuda"


def test_verifier_agrees_with_the_cpu():
    from pir.envs.countdown import Countdown

    puzzle = Countdown(4)
    batch = puzzle.sample(500, "test", seed=0)
    answers = torch.multinomial(puzzle.slot_mask.float(), 500, replacement=True).T
    answers = puzzle.clamp(batch["question"], answers.to(torch.uint8))
    here = puzzle.verify(batch["question"], answers)
    there = puzzle.verify(batch["question"].cuda(), answers.cuda())
    assert torch.equal(here.score, there.score.cpu())
    assert torch.equal(here.solved, there.solved.cpu())
