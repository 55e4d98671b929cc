"""N-Queens: complete a board so that no queen attacks another."""

from pir.envs.queens.rules import Queens

__all__ = ["Queens"]
