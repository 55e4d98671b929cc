"""`pir info`: versions and hardware for bug reports, and the size of a model on a puzzle."""

import json

from omegaconf import DictConfig, open_dict

from pir.checks import check_choice
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/info.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))

    import torch

    from pir.components import Components, build_puzzle
    from pir.evaluation.cost import flops_per_step
    from pir.runs.folder import as_yaml, run_info

    with open_dict(config):
        config.device = "cpu"
    parts = Components.build(config, build_puzzle(config))
    length, vocabulary = parts.puzzle.slot_mask.shape
    reasoner, sample = parts.reasoner, parts.puzzle.sample(1, "test", seed=0)
    info = run_info() | {
        "puzzle": {
            "tokens": length,
            "vocabulary": vocabulary,
            "question": parts.puzzle.format_question(sample["question"][0]),
            "answer": parts.puzzle.format_answer(sample["question"][0], sample["solution"][0]),
        },
        "model": {
            "parameters": reasoner.parameter_count(),
            "improvement_steps": reasoner.improvement_steps,
            "passes_per_step": reasoner.passes_per_step,
            "forward_passes": reasoner.improvement_steps * reasoner.passes_per_step,
            "flops_per_step": flops_per_step(reasoner, torch.zeros(1, length, dtype=torch.uint8)),
        },
    }
    if config.output == "json":
        say(json.dumps(info))
    else:
        say(as_yaml(info).rstrip("\n"))
