"""Which objective a puzzle is trained with where none is named."""

import pytest

from pir.settings.describe import composed
from pir.settings.schema import OBJECTIVES, register_schemas

register_schemas()

WINDOWS, STEPS = ("window", 4, "synchronous", 24), ("step", 1, "staggered", 96)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["env=sudoku9"], WINDOWS),
        (["env=sudoku9", "objective=truncated"], WINDOWS),
        (["env=sudoku9", "objective=set_likelihood"], STEPS),
        (["env=sudoku9", "objective=awr"], STEPS),
        (["env=sudoku9", "objective=deep_supervision"], STEPS),
        (["env=sudoku9", "model=looped"], STEPS),
        (["env=sudoku9", "trainer.batch_size=7"], (*WINDOWS[:3], 7)),
    ],
)
def test_nine_by_nine_is_trained_through_windows_unless_told(words, expected):
    """And lanes go with the objective: an update sees as many steps with either."""
    config = composed("train", words).config
    objective, trainer = config.objective, config.trainer
    found = (objective["update"], objective.backprop_steps, trainer.lanes, trainer.batch_size)
    assert found == expected


def test_the_others_are_trained_by_the_set_of_answers():
    assert list(OBJECTIVES) == ["sudoku9_trm"]
    for env in ("countdown", "sudoku4", "maze", "queens"):
        terms = composed("train", [f"env={env}"]).config.objective.terms
        assert [each._target_ for each in terms.values()] == ["pir.objectives.SetLikelihood"]
