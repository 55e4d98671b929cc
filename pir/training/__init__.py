"""Training: the loop, everything that changes in it, and how a run goes on to the bit.

`Trainer` is the loop; what it changes is in `TrainState`.
"""

from pir.training.state import Progress, TrainState
from pir.training.trainer import Trainer

__all__ = ["Progress", "TrainState", "Trainer"]
