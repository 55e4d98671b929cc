"""The settings that all reasoners share: names, types, defaults and meaning, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSettings:
    """What `_shared` stands for in the files of `configs/model`; some of them have other values.

    Attributes:
        hidden_size: width D of the latents, a multiple of `heads`.
        heads: attention heads.
        mixer: how tokens mix: attention, mlp (over the token dimension, for short sequences), conv
            (3x3, for puzzles with a board), candidates (every pair of position and token is a
            token of the network, for puzzles that state at_most_one; a small D is enough), or auto
            (conv where the puzzle has a board, else attention).
        positions: whether every position has an embedding of its own (candidates have none). A
            network without them that mixes by conv fits boards of every size, larger ones than in
            training too (`pir eval env.height=31`).
        expansion: inner width of the feed-forward layers, as a multiple of D.
        improvement_steps: K, the steps of a training rollout.
        halt_head: whether the read-out also estimates that its answer is right (train it with the
            term Halting).
        continue_head: whether it also estimates that a later answer will be right (HRM; the term
            QHalting).
        value_head: whether it also estimates the score of the last answer of the rollout (the term
            PPO; with episode=bandits, of an answer drawn after the step).
        step_embedding: whether every update is conditioned on the number k of the step
            (objective=dis).
        optimality_token: whether it is conditioned on a good, a bad or any answer
            (objective=cfg).
        partial_answer: whether it reads a part of an answer, which grows over a rollout
            (objective=input_curriculum, Looped Flows); rollouts then draw random numbers.
        draw_temperature: of the draws by which that part grows, see `AnswerFlow`: 1 draws from the
            policy itself; lower ones are right more often and differ a little less.
        reads_own_answer: whether every step but the first reads the answer held now in place of
            the question.
        written_answer: whether every step also reads the answer written so far, beside the
            question (the terms PPO, GroupRelative and AdvantageWeighted with episode=revisions).
        number_features: whether tokens that stand for numbers (Countdown's) start with embeddings
            made of sines and cosines of the numbers; else with random ones.
        dtype: of activations and products: float32, bfloat16, or auto for bfloat16 where the
            device is fast at it. Parameters are float32 in any case.
    """

    hidden_size: int = 128
    heads: int = 4
    mixer: str = "auto"
    positions: bool = True
    expansion: float = 4.0
    improvement_steps: int = 3
    halt_head: bool = False
    continue_head: bool = False
    value_head: bool = False
    step_embedding: bool = False
    optimality_token: bool = False
    partial_answer: bool = False
    draw_temperature: float = 0.5
    reads_own_answer: bool = False
    written_answer: bool = False
    number_features: bool = True
    dtype: str = "auto"
