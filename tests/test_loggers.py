"""Scalars reach the loggers of other packages, in one log over a resume."""

import os
import sys
import types

import pytest

from pir.errors import UserError
from pir.runs import loggers
from tests.training_runs import go_on, start


class Recorder:
    """A package, a run of it or a writer: notes every call, and returns itself."""

    def __init__(self, **attributes):
        self.calls = []
        vars(self).update(attributes)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return call

    def named(self, name):
        return [kwargs for called, _, kwargs in self.calls if called == name]


def two_sessions(folder, name):
    """Trains, and goes on."""
    folder.mkdir()
    (folder / "info.json").write_text('{"run_id": "a1b2"}')
    start(folder, f"logger={name}", "trainer.max_optimizer_steps=6").train()
    go_on(folder, f"logger={name}", "trainer.max_optimizer_steps=9").train()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("TensorBoardLogger", "torch.utils.tensorboard"),
        ("WandbLogger", "wandb"),
        ("MLflowLogger", "mlflow"),
        ("TrackioLogger", "trackio"),
    ],
)
def test_a_missing_package_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.rpartition(".")[2]
    with pytest.raises(UserError, match=rf"logger={package} .*\[{package}\]'"):
        getattr(loggers, name)()


def test_tensorboard_gets_the_scalars_and_purges_on_resume(tmp_path, monkeypatch):
    writer = Recorder(log_dir="somewhere")
    opened = []
    fake = types.SimpleNamespace(SummaryWriter=lambda log_dir: opened.append(log_dir) or writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr("torchrl.record.loggers.tensorboard._has_tb", True)
    two_sessions(tmp_path / "run", "tensorboard")
    assert opened == [str(tmp_path / "run/tensorboard")] * 2
    assert writer.purge_step == 6
    scalars = [(args[0], kwargs) for name, args, kwargs in writer.calls if name == "add_scalar"]
    assert ("train/loss", {"global_step": 3}) in scalars
    assert ("val/solved", {"global_step": 8}) in scalars


def test_tensorboard_shows_every_step_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, steps in ((0, range(6)), (3, range(3, 9))):
        logger = loggers.TensorBoardLogger()
        logger.open(tmp_path, first)
        for step in steps:
            logger.log({"train/loss": first + step}, step)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(k, k) for k in range(3)] + [(k, 3 + k) for k in range(3, 9)]
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_wandb_is_offline_in_the_run_folder_and_goes_on(tmp_path, monkeypatch):
    wandb = Recorder(id="a1b2", config={})
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("torchrl.record.loggers.wandb._has_wandb", True)
    monkeypatch.setenv("WANDB_MODE", "online")
    two_sessions(tmp_path / "run", "wandb")
    assert os.environ["WANDB_MODE"] == "dryrun"
    assert wandb.named("login") == []
    assert (
        wandb.named("init")
        == [
            {
                "name": "run",
                "dir": str(tmp_path / "run"),
                "id": "a1b2",
                "project": "pir",
                "resume": "allow",
                "reinit": "finish_previous",
            }
        ]
        * 2
    )
    logged = [args[0] for name, args, _ in wandb.calls if name == "log"]
    assert [row["train/step"] for row in logged if "train/loss" in row][-1] == 9
    assert any("val/solved" in row for row in logged)


def test_wandb_uploads_when_asked(tmp_path, monkeypatch):
    wandb = Recorder(id="a1b2", config={})
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("torchrl.record.loggers.wandb._has_wandb", True)
    monkeypatch.setenv("WANDB_MODE", "online")
    loggers.WandbLogger(offline=False).open(tmp_path, 0)
    assert os.environ["WANDB_MODE"] == "online"


def test_trackio_goes_on_under_the_same_name(tmp_path, monkeypatch):
    trackio = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setattr("torchrl.record.loggers.trackio._has_trackio", True)
    two_sessions(tmp_path / "run", "trackio")
    assert [(each["name"], each["project"], each["resume"]) for each in trackio.named("init")] == [
        ("run-a1b2", "pir", "allow")
    ] * 2
    logged = [(args[0], kwargs["step"]) for name, args, kwargs in trackio.calls if name == "log"]
    assert [step for row, step in logged if "train/loss" in row][-1] == 9
    assert any("val/solved" in row for row, _ in logged)


@pytest.mark.parametrize("server", [None, "http://tracking.example"])
def test_mlflow_goes_on_in_the_same_run(server, tmp_path, monkeypatch):
    taken = []

    class Package(Recorder):
        def start_run(self, experiment_id):
            taken.append(os.environ.pop("MLFLOW_RUN_ID", None))
            return self

    mlflow = Package(info=types.SimpleNamespace(run_id="c3d4"), experiment_id="1")
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr("torchrl.record.loggers.mlflow._has_mlflow", True)
    monkeypatch.setattr(loggers, "MLFLOW_SERVER", server)
    two_sessions(tmp_path / "run", "mlflow")
    assert taken == [None, "c3d4"]
    uris = [args[0] for name, args, _ in mlflow.calls if name == "set_tracking_uri"]
    assert uris == [server or f"sqlite:///{tmp_path}/run/mlflow/mlflow.db"] * 2
    logged = [kwargs["step"] for kwargs in mlflow.named("log_metrics")]
    assert logged == sorted(logged)
    assert logged[-1] == 9
    assert len(mlflow.named("end_run")) == 2


def test_mlflow_follows_no_link_out_of_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", Recorder())
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/mlflow.db").symlink_to("/elsewhere.db")
    with pytest.raises(UserError, match="is a link"):
        loggers.MLflowLogger().open(tmp_path, 0)


def test_a_setting_of_a_runs_logger_changes_on_resume(pir_here, tiny_run, monkeypatch):
    """The logger is named once; what is given later belongs to it."""
    opened = []
    monkeypatch.setattr(loggers, "WandbLogger", type("Wandb", (loggers.NoLogger,), {
        "__init__": lambda self, **settings: opened.append(settings),
    }))  # fmt: skip
    words = ["train", f"resume={tiny_run}", "trainer.test_puzzles=10"]
    pir_here(*words, "logger=wandb", "trainer.max_optimizer_steps=31")
    pir_here(*words, "logger.offline=false", "trainer.max_optimizer_steps=32")
    assert [each["offline"] for each in opened] == [True, False]
    assert {each["project"] for each in opened} == {"pir"}
    said = pir_here(*words, "logger.nothing=1", code=2).stderr
    assert "logger.nothing is no setting" in said
