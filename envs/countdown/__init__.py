"""Countdown: combine given numbers with + - * / to reach a target."""

from pir.envs.countdown.rules import Countdown

__all__ = ["Countdown"]
