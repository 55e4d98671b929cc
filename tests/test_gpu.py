"""The same laws on a CUDA device; skipped where there is none."""

import pytest
import torch

from pir.run_folder import RunFolder
from pir.train import Trainer
from tests.conftest import compose_config
from tests.golden import OBJECTIVES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_trains_and_resumes_on_cuda(tmp_path, objective):
    options = [f"objective={objective}", "device=cuda"]
    if objective not in ("cfg", "input_curriculum"):
        options.append("trainer.replay_share=0.25")
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


def test_evaluation_agrees_with_the_cpu():
    """Every sweep and exit rule runs on the device and finds what the CPU finds."""
    from pir.envs.queens import Queens

    from pir.evaluation.breadth import breadth
    from pir.evaluation.exit_sweep import run_rule
    from pir.evaluation.floors import look_up, masked_random, one_blank
    from pir.evaluation.probes import CellSample, GuidanceSweep, LatentSample, StepSizeProbe
    from pir.evaluation.rollouts import evaluate
    from pir.exits import PredictedGain
    from pir.models.trm import TRM

    puzzle = Queens(hide=(1, 2))
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32").eval()
    puzzles = puzzle.sample(60, "test", seed=0)
    here = evaluate(model, puzzle, puzzles, 4, 25)
    model, puzzles = model.cuda(), puzzles.cuda()
    observers = [
        GuidanceSweep(puzzle, [0.5, 2.0], 4),
        StepSizeProbe(model, puzzle, [0.5], 4),
        CellSample(),
        LatentSample(),
    ]
    there = evaluate(model, puzzle, puzzles, 4, 25, observers)
    torch.testing.assert_close(there.values["kl"], here.values["kl"], rtol=1e-2, atol=1e-4)
    rule = PredictedGain()
    rule.fit(there.values)
    assert run_rule(model, puzzle, puzzles, rule, 1.0, 4, 25).steps.tolist() == [4] * 60
    assert len(breadth(model, puzzle, puzzles, 2, 0.3, 25)) == 5
    assert one_blank(model, puzzle, puzzles)["puzzles"] == 60
    assert 0 <= masked_random(puzzle, puzzles)["solved"] <= look_up(puzzle, puzzles)["solved"] <= 1
