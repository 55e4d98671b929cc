"""The settings that may change when a run is resumed."""

CHANGEABLE = (
    "trainer.max_optimizer_steps",
    "trainer.max_minutes",
    "trainer.max_forward_passes",
    "trainer.patience",
    "trainer.test_puzzles",
    "trainer.eval_batch_size",
    "trainer.threads",
    "logger",
    "device",
)
"""What may differ when a run is resumed: how long and where, not what is trained."""
