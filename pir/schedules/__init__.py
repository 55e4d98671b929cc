"""Lane schedules: which lanes take a new puzzle, and how many steps lie between two refills.

`trainer.lanes=NAME` chooses one of `configs/lanes/`; a plug-in adds a class and a file there.
"""

from pir.schedules.base import LaneSchedule
from pir.schedules.by_ledger import ByLedger
from pir.schedules.halting import Halting
from pir.schedules.staggered import Staggered
from pir.schedules.synchronous import Synchronous

__all__ = ["ByLedger", "Halting", "LaneSchedule", "Staggered", "Synchronous"]
