"""What the library takes from Python, and what it refuses, before anything is computed."""

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from tensordict import TensorDict

import pir
from pir.errors import UserError
from pir.evaluation.solve import Stop
from pir.exits import Entropy, Verifier
from pir.models.trm import TRM
from tests.small_reasoners import Plain
from tests.training_runs import trainer_of


class MasksByInfinity(Plain):
    def read_out(self, state):
        policy = super().read_out(state)
        return policy._replace(logits=policy.logits.masked_fill(policy.logits < -1e3, -torch.inf))


def test_logits_of_minus_infinity_are_refused_before_training():
    with pytest.raises(UserError, match="MASKED_LOGIT"):
        trainer_of(reasoner=MasksByInfinity)


def test_mistakes_are_user_errors(finished_run):
    parts, *_ = pir.load_trained(finished_run)
    puzzle, reasoner = parts.puzzle, parts.reasoner
    sample = pir.held_out(puzzle, "test", 2)
    question = sample["question"][0]
    for mistake, message in (
        (lambda: pir.held_out(puzzle, "exam", 4), "split=exam: allowed are train, val, test"),
        (lambda: pir.held_out(puzzle, "test", 0), "0 puzzles of the test split"),
        (lambda: pir.evaluate(reasoner, puzzle, sample, 0), "num_steps=0: must be at least 1"),
        (lambda: pir.evaluate(reasoner, puzzle, sample[:0], 2), r"puzzles has the shape \(0,\)"),
        (lambda: pir.evaluate(reasoner, puzzle, sample[0], 2), r"puzzles has the shape \(\)"),
        (lambda: pir.evaluate(reasoner, puzzle, sample, 2, 0), "batch_size=0: must be at least 1"),
        (lambda: pir.solve(reasoner, puzzle, "3 7 8 = 29"), "a list of texts is expected"),
        (lambda: pir.solve(reasoner, puzzle, sample), "or of tokens, not one TensorDict"),
        (lambda: pir.solve(reasoner, puzzle, [question[:3]]), r"questions\[0\] has the shape"),
        (lambda: pir.solve(reasoner, puzzle, [question + 200]), r"questions\[0\] holds the token"),
        (lambda: pir.solve(reasoner, puzzle, [question.float()]), r"\] holds torch.float32"),
        (lambda: pir.solve(reasoner, puzzle, [question], starts=0), "starts=0: must be at least 1"),
        (lambda: pir.solve(reasoner, puzzle, [question], None, -1), "batch_size=-1: must be at"),
        (lambda: pir.solve(reasoner, puzzle, [question], Stop(Verifier(), 1, 0)), "stop.most=0"),
        (lambda: pir.solve(reasoner, puzzle, [question], Entropy()), "Entropy has no threshold"),
        (lambda: pir.Objective({"wrong": 3}), "3 is no term"),
        (lambda: pir.TrainerSettings(batch_size="8"), "batch_size='8': allowed is a whole number"),
        (lambda: pir.TrainerSettings(threads="1"), "'1': allowed is a whole number or None"),
        (lambda: pir.TrainerSettings(eval_every=None), "=None: allowed is a whole number"),
        (lambda: pir.TrainerSettings(max_optimizer_steps=10.5), "=10.5: allowed is a whole number"),
        (lambda: pir.TrainerSettings(warmup_steps=True), "=True: allowed is a whole number"),
        (lambda: pir.TrainerSettings(compile=None), "=None: allowed is a text"),
    ):
        with pytest.raises(pir.UserError, match=message):
            mistake()
    assert pir.TrainerSettings(max_optimizer_steps=1e4).max_optimizer_steps == 10_000


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Queens(size=12), r"env\.size is unknown \(allowed: augment_file, hide, n, "),
        (lambda: Queens(hid=(1, 2)), r"env\.hid is unknown; did you mean hide\?"),
        (lambda: TRM(Queens(), hiden_size=4), r"model\.hiden_size .* did you mean hidden_size\?"),
        (lambda: Sudoku(clues=8), r"env\.clues=8: allowed are two whole numbers, as \(4, 9\)"),
        (lambda: Sudoku(box=4), r"env\.box=4: allowed are two whole numbers"),
        (lambda: Queens(hide=(1, 2.5)), r"env\.hide=\(1, 2.5\): allowed are two whole"),
        (lambda: Countdown(number_range=5), r"env\.number_range=5: allowed are two whole"),
        (lambda: Graph(hops="23"), r"env\.hops=23: allowed are two whole"),
        (lambda: Sudoku().sample(2, "dev", seed=0), "split=dev: allowed are train, val, test"),
        (lambda: pir.held_out(Queens(), "test", 2, "nowhere"), "device=nowhere: not available"),
    ],
)
def test_wrong_keywords_are_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()


class NoParameters(pir.Reasoner):
    """Answers every question with the first of all tokens."""

    improvement_steps, passes_per_step = 2, 1

    def start(self, question):
        logits = torch.zeros(*question.shape, len(Countdown().vocabulary))
        return TensorDict({"logits": logits}, batch_size=question.shape[:1])

    def improve(self, question, state, k, condition=None):
        return state

    def read_out(self, state):
        return pir.Policy(state["logits"])


def test_logits_of_minus_infinity_are_refused():
    class Masks(NoParameters):
        def read_out(self, state):
            return pir.Policy(state["logits"].masked_fill(~Countdown().slot_mask, -torch.inf))

    sample = pir.held_out(Countdown(), "test", 2)
    for use in (pir.evaluate, lambda r, p, s, _: pir.solve(r, p, s["question"])):
        with pytest.raises(UserError, match=r"logits hold -inf.*MASKED_LOGIT \(-10000\)"):
            use(Masks(), Countdown(), sample, 2)


def test_settings_may_be_tuples_and_numbers_of_numpy():
    changed = {"clues": (9, np.int64(10)), "guesses": None}
    puzzle = pir.load_trained("zoo:sudoku4", changed=changed)[0].puzzle
    assert puzzle.clues == (9, 10)


def test_questions_are_texts_or_tokens_of_any_kind():
    puzzle, reasoner = Countdown(), NoParameters()
    questions = pir.held_out(puzzle, "test", 2)["question"]
    texts = [puzzle.format_question(question) for question in questions]
    found = pir.solve(reasoner, puzzle, texts)
    mixed = [questions[0], texts[1]]
    for same in (questions, questions.numpy(), questions.long(), questions.tolist(), mixed):
        assert pir.solve(reasoner, puzzle, same) == found
    assert pir.solve(reasoner, puzzle, questions[:0]) == []


def frozen(puzzle):
    return Plain(puzzle).requires_grad_(False)


class Constant(pir.Term):
    def loss(self, rollout, puzzle, reasoner):
        return rollout.after.score.mean()


def test_what_would_train_nothing_is_refused():
    other = torch.optim.AdamW(trainer_of().reasoner.parameters())
    with pytest.raises(UserError, match=r"holds none of the \d+ parameters that are trained"):
        trainer_of(optimizer=other)
    with pytest.raises(UserError, match="no parameter has requires_grad"):
        trainer_of(reasoner=frozen)
    trainer = trainer_of(objective=pir.Objective({"constant": Constant()}))
    with pytest.raises(UserError, match=r"objective\.terms: constant has no gradient"):
        trainer.train()
