"""Where scalars go beside the run folder's own CSV files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pir.errors import MissingExtraError, UserError
from pir.runs.folder import RunFolder, write_text

MLFLOW_SERVER = os.environ.get("MLFLOW_TRACKING_URI")
"""The user's; read at once, because MLflow sets the variable to the database of the first run."""


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


class TorchRLLogger(Logger):
    """Hands scalars to a logger of TorchRL, which a subclass opens.

    Raises:
        UserError: if the package that it needs is not installed.
    """

    package: str
    module: str
    opened: Any

    def __init__(self) -> None:
        """Makes sure that the package is there."""
        try:
            import_module(self.module)
        except ImportError as error:
            raise MissingExtraError(f"logger={self.package}", self.package) from error

    def log(self, scalars: Mapping[str, float], optimizer_step: int) -> None:
        """Writes every scalar under its name."""
        self.opened.log_metrics(dict(scalars), step=optimizer_step)
        self.opened.flush()


class TensorBoardLogger(TorchRLLogger):
    """TensorBoard event files in `<run>/tensorboard`."""

    package, module = "tensorboard", "torch.utils.tensorboard"

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Opens an event file; scalars that an interrupted run wrote later are purged."""
        from torchrl.record.loggers.tensorboard import TensorboardLogger

        self.opened = TensorboardLogger("tensorboard", log_dir=str(folder))
        writer = self.opened.experiment
        writer.close()  # it opens again with the next scalar, and writes then where to purge from
        writer.purge_step = optimizer_step


class WandbLogger(TorchRLLogger):
    """Weights & Biases, in `<run>/wandb`; a resumed run keeps its id.

    Args:
        project: name of the project.
        offline: whether nothing leaves the machine; `wandb sync` uploads it later.
    """

    package = module = "wandb"

    def __init__(self, project: str = "pir", offline: bool = True) -> None:
        """Keeps the settings; see the class."""
        super().__init__()
        self.project, self.offline = project, offline

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Opens the run, and ends that of an earlier job of a sweep."""
        from torchrl.record.loggers.wandb import WandbLogger

        self.opened = WandbLogger(
            folder.name,
            offline=self.offline,
            save_dir=folder,
            id=RunFolder(folder).named_run_id,
            project=self.project,
            log_env_packages=False,
            reinit="finish_previous",
        )


class TrackioLogger(TorchRLLogger):
    """Trackio, in its own database on this machine (TRACKIO_DIR); a resumed run keeps its name.

    Args:
        project: name of the project, as in `trackio show --project pir`.
    """

    package = module = "trackio"

    def __init__(self, project: str = "pir") -> None:
        """Keeps the settings; see the class."""
        super().__init__()
        self.project = project

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Opens the run; Trackio ends that of an earlier job of a sweep."""
        from torchrl.record.loggers.trackio import TrackioLogger as Opened

        name = f"{folder.name}-{RunFolder(folder).named_run_id}"
        self.opened = Opened(name, self.project, embed=False, auto_log_gpu=False)


class MLflowLogger(TorchRLLogger):
    """MLflow, in a database in `<run>/mlflow`, or on the server that MLFLOW_TRACKING_URI names.

    Args:
        experiment: name of the experiment; every run of ours is a run of it.
    """

    package = module = "mlflow"

    def __init__(self, experiment: str = "pir") -> None:
        """Keeps the settings; see the class."""
        super().__init__()
        self.experiment = experiment

    def open(self, folder: Path, optimizer_step: int) -> None:
        """Opens the run, the same one on resume, and ends that of an earlier job of a sweep.

        Raises:
            UserError: if the database is a link, which may lead out of the run folder.
        """
        import mlflow
        from torchrl.record.loggers.mlflow import MLFlowLogger

        place = folder.resolve() / "mlflow"
        place.mkdir(exist_ok=True)
        run_id, database = place / "run_id", place / "mlflow.db"
        if database.is_symlink():
            raise UserError(f"{database} is a link; remove it")
        mlflow.end_run()
        if run_id.exists():
            os.environ["MLFLOW_RUN_ID"] = run_id.read_text()  # the run that start_run goes on with
        self.opened = MLFlowLogger(
            self.experiment,
            tracking_uri=MLFLOW_SERVER or f"sqlite:///{database}",
            artifact_location=None if MLFLOW_SERVER else (place / "artifacts").as_uri(),
        )
        write_text(run_id, self.opened.experiment.info.run_id)
