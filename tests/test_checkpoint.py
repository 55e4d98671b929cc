"""Checkpoints are whole: sealed, finite, of known content, and best.pt belongs to its run."""

import os
import random
import shutil
import zipfile
from functools import reduce

import pytest
import torch

from pir.errors import NonFiniteLossError, UserError
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.runs.load import load_trained
from tests.training_runs import assert_same_run, go_on, start

CPU = torch.device("cpu")
OPTIONS = ("trainer.replay_share=0.5", "trainer.replay_size=20", "objective=group_relative")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    trainer = start(folder, *OPTIONS, "trainer.max_optimizer_steps=6", "trainer.log_every=5")
    trainer.train()
    trainer.folder.end.unlink(missing_ok=True)
    return trainer.folder


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def resumed(run):
    return go_on(run.path, *OPTIONS, "trainer.max_optimizer_steps=8", "trainer.log_every=5")


def test_torch_and_zip_tools_read_a_sealed_file(trained):
    content = torch.load(trained.last, weights_only=True)
    assert content["format"] == "pir checkpoint"
    assert set(content) == {"format", "schema_version", *checkpoint.CONTENT}
    with zipfile.ZipFile(trained.last) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(checkpoint.SEAL)


def test_a_message_of_torch_shows_no_address(trained, monkeypatch):
    """As torch says it of a file in which the kind of a tensor stands for its name."""

    def load(*_, **__):
        raise RuntimeError("no file ('storage', <torch.StorageType object at 0x7f955cfc43d0>)")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(UserError, match=r"no file \('storage', <torch\.StorageType object>\)$"):
        checkpoint.load(trained.last, CPU)


def test_every_flipped_bit_is_noticed(trained, tmp_path):
    rng, file = random.Random(14), tmp_path / "flipped.pt"
    for source in (trained.last, trained.best):
        whole = source.read_bytes()
        ends = range(len(whole) - 100, len(whole), 9)  # the end of the archive and the checksum
        for place in [*(rng.randrange(len(whole)) for _ in range(50)), *ends]:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(UserError):
                checkpoint.load(file, CPU)
    checkpoint.load(trained.last, CPU)


def rewritten(path, place, change):
    """Changes one value in a checkpoint, and seals it again."""
    content = torch.load(path, weights_only=True)
    *above, name = place
    parent = reduce(lambda part, key: part[key], above, content)
    parent[name] = change(parent[name])

    def write(file):
        torch.save(content, file)
        return checkpoint._seal(file)

    checkpoint.write_atomically(path, write)


WEIGHT = ("weights", "token.weight")
WRONG = {
    "sparse": (WEIGHT, lambda w: w.to_sparse(), "weights.token.weight is no dense tensor"),
    "meta": (WEIGHT, lambda w: w.to("meta"), "no dense tensor"),
    "complex": (WEIGHT, lambda w: w.to(torch.complex64), "a tensor of torch.complex64"),
    "quantised": (
        WEIGHT,
        lambda w: torch._make_per_tensor_quantized_tensor(w.to(torch.uint8), 1.0, 0),
        "no dense tensor",
    ),
    "nested": (
        WEIGHT,
        lambda w: torch.nested.nested_tensor([w[0], w[1]], layout=torch.jagged),
        "damaged",
    ),
    "repeated": (WEIGHT, lambda w: torch.zeros(1).expand(1 << 40), "repetition of a stored"),
    "nan": (WEIGHT, lambda w: w * torch.nan, "weights.token.weight is infinite or not"),
    "whole": (WEIGHT, lambda w: w.long(), "float32 here"),
    "shape": (WEIGHT, lambda w: w[:-1].clone(), "does not fit this model"),
    "average": (("average",), lambda a: {n: w * torch.nan for n, w in a.items()}, "infinite or"),
    "no optimizer": (("optimizer",), lambda _: None, "optimizer is null, allowed is a mapping"),
    "other optimizer": (("optimizer",), lambda o: o["adamw"], "optimizer.muon is missing"),
    "empty state": (("optimizer", "adamw", "state"), lambda _: {0: {}}, "does not fit"),
    "moment": (
        ("optimizer", "adamw", "state", 2, "exp_avg_sq"),
        lambda m: m[:0].clone(),
        "exp_avg_sq is 0",
    ),
    "moments": (("optimizer", "muon", "state", 0), lambda s: {"other": s}, "momentum_buffer is mi"),
    "rate": (("optimizer", "muon", "param_groups", 0, "initial_lr"), lambda _: 1.0, "rates"),
    "no progress": (("progress",), lambda _: {}, "progress is a mapping of 0"),
    "depth": (("progress", "best_depth"), lambda _: 1.5, "progress.best_depth is 1.5"),
    "deep": (("progress", "best_depth"), lambda _: 10**9, "best_depth is 1000000000"),
    "negative": (("progress", "optimizer_step"), lambda _: -1, "progress.optimizer_step is -1"),
    "bool": (("progress", "puzzles_seen"), lambda _: True, "progress.puzzles_seen is True"),
    "huge": (("progress", "lane_steps"), lambda _: 10**400, "is no count"),
    "seconds": (("watch", "seconds"), lambda _: float("nan"), "is nan"),
    "lanes": (("lanes", "k"), lambda k: k + 100, "lanes.k is out of"),
    "token": (("lanes", "now", "answer"), lambda a: a.fill_(255), "outside the vocabulary"),
    "few lanes": (("lanes", "now", "logits"), lambda t: t[:2].clone(), "lanes.now.logits is 2x"),
    "random": (("random", "cpu"), lambda s: s[:10].clone(), "does not fit"),
    "ledger": (("ledger", "counts"), lambda c: c[0].clone(), "ledger.counts is"),
    "pool": (("hard_puzzles", "_writer", "_cursor"), lambda _: 10**9, "_cursor is"),
    "coming": (("hard_puzzles", "coming", "failed"), lambda f: f.long(), "coming.failed|failed is"),
    "config": (("config",), lambda _: "[" * 100_000, "config cannot be read"),
    "rows": (("run", "rows"), lambda _: {}, "run.rows is"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("ignore")  # torch's own, about kinds of tensors
def test_wrong_content_is_refused_in_words(run, case):
    place, change, message = WRONG[case]
    rewritten(run.last, place, change)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        resumed(run)


def test_a_container_that_holds_itself_is_refused(run):
    def knot(_):
        inside = {}
        for _ in range(100):
            inside = {"deeper": inside}
        return inside

    rewritten(run.last, ("hard_puzzles",), knot)
    with pytest.raises(UserError, match="lies too deep"):
        resumed(run)


def test_a_compressed_archive_is_refused(run):
    members = {}
    with zipfile.ZipFile(run.last) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run.last, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="it is compressed"):
        resumed(run)


def test_solve_refuses_an_average_that_is_not_a_number(run):
    rewritten(run.best, ("average",), lambda a: {n: w * torch.nan for n, w in a.items()})
    with pytest.raises(UserError, match="infinite or not a number"):
        load_trained(run, "cpu")


def poison(trainer, what):
    nan = torch.nan
    if what == "moment":
        next(iter(trainer.state.optimizer.adamw.state.values()))["exp_avg"].fill_(nan)
    elif what == "average":
        next(iter(trainer.state.average.parameters())).data.fill_(nan)
    elif what == "buffer":
        trainer.reasoner.y_start.fill_(torch.inf)
    elif what == "state":
        trainer.state.lanes.now.state["z"].fill_(nan)
    elif what == "interval":
        trainer.progress.interval["loss"] = nan


@pytest.mark.parametrize("what", ["moment", "average", "buffer", "state", "interval"])
def test_nothing_is_saved_unless_all_of_it_is_finite(tmp_path, what):
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=3")
    trainer.train()
    before = [file.read_bytes() for file in (trainer.folder.last, trainer.folder.best)]
    poison(trainer, what)
    for path in (trainer.folder.last, trainer.folder.best):
        with pytest.raises(NonFiniteLossError, match="infinite or not a number"):
            trainer.save(path)
    assert before == [file.read_bytes() for file in (trainer.folder.last, trainer.folder.best)]


def test_masked_logits_may_be_minus_infinity(tmp_path):
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=3")
    trainer.train()
    trainer.state.lanes.now.logits[..., 0] = -torch.inf
    trainer.save(trainer.folder.last)
    checkpoint.load(trainer.folder.last, CPU)


def test_best_must_be_the_one_that_last_was_written_beside(run, tmp_path):
    best = run.best.read_bytes()
    run.best.unlink()
    with pytest.raises(UserError, match=r"best\.pt is missing.*put the run's own file back"):
        resumed(run)
    other = start(tmp_path / "other", *OPTIONS, "trainer.max_optimizer_steps=2")
    other.train()
    shutil.copy(other.folder.best, run.best)
    with pytest.raises(UserError, match=r"best\.pt is of another run"):
        resumed(run)
    with pytest.raises(UserError, match="another run"):
        load_trained(run, "cpu")
    shutil.copy(run.last, run.best)
    with pytest.raises(UserError, match="is not the one"):
        resumed(run)
    run.best.write_bytes(best)
    shutil.copy(other.folder.last, run.last)
    with pytest.raises(UserError, match=r"last\.pt is of another run"):
        resumed(run)


def test_a_kill_between_best_and_last_is_no_damage(tmp_path, monkeypatch):
    """best.pt is of a later step than last.pt then; the run comes to that step again."""
    start(tmp_path / "whole").train()
    trainer, saved = start(tmp_path / "cut"), []

    def save(path):
        if saved[-1:] == [trainer.folder.best] and trainer.progress.optimizer_step > 0:
            raise KeyboardInterrupt
        saved.append(path)
        return type(trainer).save(trainer, path)

    monkeypatch.setattr(trainer, "save", save)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    go_on(tmp_path / "cut").train()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_without_a_best_the_last_is_evaluated_and_named(run, capsys):
    run.best.unlink()
    stream = torch.get_rng_state()
    assert load_trained(run, "cpu")[2] == run.last
    assert torch.equal(torch.get_rng_state(), stream)  # the user's goes on as it was
    assert "best.pt is missing; last.pt is used" in capsys.readouterr().err


INFO_LOST = {
    "missing": lambda info: info.unlink(),
    "damaged": lambda info: info.write_text(info.read_text()[:-20]),
    "without a name": lambda info: info.write_text("{}"),
    "with an empty name": lambda info: info.write_text('{"run_id": ""}'),
    "with another kind of name": lambda info: info.write_text('{"run_id": 7}'),
}


@pytest.mark.parametrize("loss", INFO_LOST)
def test_without_info_json_last_names_the_run(run, tmp_path, capsys, loss):
    INFO_LOST[loss](run.info)
    assert load_trained(run, "cpu")[2] == run.best
    assert capsys.readouterr().err == ""
    other = start(tmp_path / "other", *OPTIONS, "trainer.max_optimizer_steps=2")
    other.train()
    shutil.copy(other.folder.best, run.best)
    with pytest.raises(UserError, match=r"best\.pt is of another run .* in last\.pt"):
        load_trained(run, "cpu")
    with pytest.raises(UserError, match=r"best\.pt is of another run .* in last\.pt"):
        other.warm_start(run)
    run.last.unlink()
    load_trained(run, "cpu")
    said = f"warning: whether {run.best} is of this run is not known: {run.info} does not name"
    assert said in capsys.readouterr().err
    run.best.rename(run.last)
    load_trained(run, "cpu")
    assert f"warning: whether {run.last} is of this run is not known" in capsys.readouterr().err


def test_a_run_without_info_json_keeps_its_name(run):
    run.info.unlink()
    name = checkpoint.load(run.last, CPU)["run"]["id"]
    trainer = resumed(run)
    assert trainer.save(run.last)
    assert checkpoint.load(run.last, CPU)["run"]["id"] == name
    assert load_trained(run, "cpu")[2] == run.best
    resumed(run)


def test_another_number_of_threads_is_said(run, capsys):
    resumed(run)
    assert "warning" not in capsys.readouterr().err
    try:
        go_on(run.path, *OPTIONS, "trainer.log_every=5", "trainer.threads=2")
    finally:
        torch.set_num_threads(1)
    assert "warning: threads 1 -> 2: the weights will differ in rounding" in capsys.readouterr().err


def test_a_folder_that_is_deleted_while_training_stays_deleted(tmp_path):
    trainer = start(tmp_path / "run")
    with trainer.folder.claim():
        shutil.rmtree(tmp_path / "run")
        for write in (lambda: trainer.save(trainer.folder.last), trainer.train):
            with pytest.raises(UserError, match="was moved or removed"):
                write()
    assert not (tmp_path / "run").exists()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_atomically(tmp_path / "file", lambda file: file.write(b"half"))
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_a_partial_file_is_replaced(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "file.partial").symlink_to(outside)
    checkpoint.write_atomically(tmp_path / "file", lambda file: file.write(b"other"))
    assert outside.read_text() == "kept"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["file", "outside"]
