"""What the settings of the training loop may be, and which may change when a run is resumed."""

from omegaconf import DictConfig

from pir.errors import UserError

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


def check_settings(settings: DictConfig) -> None:
    """Refuses trainer settings that are out of range.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    at_least_one = (
        "batch_size",
        "replay_size",
        "log_every",
        "eval_every",
        "val_puzzles",
        "test_puzzles",
        "eval_batch_size",
    )
    budgets = ("max_optimizer_steps", "max_minutes", "max_forward_passes")
    for key in at_least_one:
        if settings[key] is not None and settings[key] < 1:
            raise UserError(f"trainer.{key}={settings[key]}: must be at least 1")
    for key in (*budgets, "patience"):
        if settings[key] is not None and not settings[key] > 0:
            raise UserError(f"trainer.{key}={settings[key]}: must be above 0, or null for none")
    if all(settings[key] is None for key in budgets):
        raise UserError(f"set a budget: one of {', '.join(f'trainer.{key}' for key in budgets)}")
    for key in ("warmup_steps", "decay_steps"):
        if settings[key] < 0:
            raise UserError(f"trainer.{key}={settings[key]}: must be at least 0")
    for key in ("final_lr_ratio", "ema_decay"):
        if not 0 <= settings[key] <= 1:
            raise UserError(f"trainer.{key}={settings[key]}: must lie in [0, 1]")
    if not 0 <= settings.replay_share < 1:
        raise UserError(f"trainer.replay_share={settings.replay_share}: must lie in [0, 1)")
    if not settings.max_grad_norm > 0:
        raise UserError(f"trainer.max_grad_norm={settings.max_grad_norm}: must be above 0")
