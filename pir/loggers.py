"""Where scalars go beside the run folder's own CSV files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pir.errors import UserError


class Logger(ABC):
    """Receives scalars while a run trains."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Is told the run folder once, before the first scalars."""

    @abstractmethod
    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Takes named scalars of one optimizer step."""


class NoLogger(Logger):
    """The CSV files of the run folder are enough."""

    def open(self, folder: Path) -> None:
        """Does nothing."""

    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Does nothing."""


class TensorBoardLogger(Logger):
    """TensorBoard event files in `<run>/tensorboard`."""

    def open(self, folder: Path) -> None:
        """Opens the event file.

        Raises:
            UserError: if the package tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("logger=tensorboard needs `pip install tensorboard`") from error
        self.writer = SummaryWriter(folder / "tensorboard")

    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Writes every scalar under its name."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, optimizer_step)
        self.writer.flush()
