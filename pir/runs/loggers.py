"""Where scalars go beside the run folder's own CSV files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pir.errors import UserError


class Logger(ABC):
    """Receives scalars while a run trains."""

    @abstractmethod
    def open(self, folder: Path, optimizer_step: int) -> None:
        """Is told, before the first scalars, the run folder and the step that it starts from."""

    @abstractmethod
    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Takes named scalars of one optimizer step."""


class NoLogger(Logger):
    """The CSV files of the run folder are enough."""

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Does nothing."""

    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Does nothing."""


class TensorBoardLogger(Logger):
    """TensorBoard event files in `<run>/tensorboard`.

    Raises:
        UserError: if the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        """Makes sure that the package is there."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("logger=tensorboard needs `pip install tensorboard`") from error
        self.writer_class = SummaryWriter

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Opens an event file; scalars that an interrupted run wrote later are purged."""
        self.writer = self.writer_class(folder / "tensorboard", purge_step=optimizer_step)

    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Writes every scalar under its name."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, optimizer_step)
        self.writer.flush()
