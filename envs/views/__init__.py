"""Puzzles as environments: Gymnasium, TorchRL, and the episode that both show.

`registration` gives every puzzle a Gymnasium id; `episode.Episode` is the decision process.
"""
