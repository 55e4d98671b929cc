"""From settings to an exit rule."""

from typing import Any

from pir.checks import suggest
from pir.errors import UserError
from pir.exits.rules import ExitRule
from pir.ledger.statistics import STATISTICS
from pir.settings.build import build


def build_rule(node: Any, key: str) -> ExitRule:
    """Builds an exit rule from its settings.

    Raises:
        UserError: if it cannot be built, or needs what a rule cannot have: an unknown statistic,
            one that needs a label, or one that single puzzles do not have.
    """
    rule: ExitRule = build(node, key, ExitRule)  # type: ignore[type-abstract]
    for name in rule.needs:
        found = STATISTICS.get(name)
        if found is None or found.label or found.width > 1:
            known = [n for n, s in STATISTICS.items() if not s.label and s.width == 1]
            raise UserError(f"{key} needs the statistic {name}{suggest(name, known)}")
    return rule
