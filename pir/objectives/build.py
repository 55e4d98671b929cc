"""Objectives from settings: a term's place in the sum is written beside the term's own settings."""

from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pir.config import build
from pir.errors import UserError
from pir.objective import Objective, Term, Weighted


def build_objective(node: DictConfig) -> Objective:
    """Builds an objective from `objective` of the settings.

    Raises:
        UserError: if a class or an argument does not fit.
    """
    settings: Any = OmegaConf.to_container(node, resolve=True)
    terms = settings.pop("terms", None) if isinstance(settings, dict) else None
    if not isinstance(terms, dict):
        raise UserError("objective.terms: terms by name are needed, each with a _target_")
    weighted = {name: _weighted(term, f"objective.terms.{name}") for name, term in terms.items()}
    return build(settings, "objective", Objective, terms=weighted)


def _weighted(settings: Any, path: str) -> Weighted:
    """Builds a term, and the part of its settings that is the sum's."""
    own = {each.name for each in fields(Weighted)} - {"term"}
    settings = settings if isinstance(settings, dict) else {}
    place = {name: value for name, value in settings.items() if name in own}
    rest = {name: value for name, value in settings.items() if name not in own}
    term = build(rest, path, Term)  # type: ignore[type-abstract]
    return build({"_target_": "pir.objectives.Weighted"} | place, path, Weighted, term=term)
