"""Runs that begin with the weights of another run."""

import shutil

import pytest
import torch
from pir.analysis.pages.table_view import as_text
from pir.analysis.reading.groups import group_by_seed
from pir.analysis.reading.runs import Run

from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.load import load_trained
from pir.training.build import build_trainer
from tests import conftest
from tests.conftest import compose_config
from tests.test_table import table, write

BASE = ("model=feedforward", "model.mixer=attention")


def train(folder, *words, init=None):
    config = compose_config(*words)
    trainer, run_folder = build_trainer(config, RunFolder(folder)), RunFolder(folder)
    told = trainer.warm_start(RunFolder(init)) if init else ""
    run_folder.create(config, ["pir", "train"])
    assert trainer.train()
    return trainer, told


def test_a_frozen_base_keeps_the_weights_of_the_run_it_began_with(tmp_path):
    base, _ = train(tmp_path / "base", *BASE)
    dual, told = train(
        tmp_path / "dual", "model=dual", "model.train_base=false", init=tmp_path / "base"
    )
    assert "fresh: coprocessor, soft_tokens" in told
    theirs = load_trained(base.folder, "cpu")[0].reasoner.state_dict()
    ours = dual.reasoner.state_dict()
    shared = sorted(theirs.keys() & ours.keys())
    assert {name.split(".")[0] for name in shared} == {"token", "position", "base", "logit_head"}
    assert all(torch.equal(theirs[name], ours[name]) for name in shared)
    frozen = {name for name, p in dual.reasoner.named_parameters() if not p.requires_grad}
    assert frozen == set(shared)
    question = dual.puzzle.sample(5, "test", seed=0)["question"]
    trained = load_trained(base.folder, "cpu")[0].reasoner
    alone = dual.reasoner.base(dual.reasoner.embed(question))
    first = trained.improve(question, trained.start(question), torch.ones(len(question)).long())
    answers = (trained.read_out(first), dual.reasoner.read_out({"y": alone}))
    assert torch.equal(*(policy.logits for policy in answers))


def test_a_frozen_base_without_weights_is_refused(pir_here, tmp_path):
    words = [word for word in conftest.TINY if "latent_steps" not in word]
    frozen = ["model=dual", "model.train_base=false"]
    done = pir_here("train", *frozen, *words, f"run={tmp_path / 'a'}", code=2)
    assert "never trained: set init=RUN" in done.stderr
    assert not (tmp_path / "a").exists()
    narrow, _ = train(tmp_path / "narrow", *BASE, "model.expansion=1")
    dual = build_trainer(compose_config(*frozen), RunFolder(tmp_path / "dual"))
    with pytest.raises(UserError, match="lacks weights that are not trained: base"):
        dual.warm_start(narrow.folder)


def test_one_network_in_both_roles_begins_with_a_base_too(tmp_path):
    base, _ = train(tmp_path / "base", *BASE)
    soft = build_trainer(compose_config("model=soft_embedding"), RunFolder(tmp_path / "soft"))
    soft.warm_start(base.folder)
    theirs = load_trained(base.folder, "cpu")[0].reasoner.base.state_dict()
    for role in (
        soft.reasoner.base,
        soft.reasoner.coprocessor,
        soft.state.average.module.coprocessor,
    ):
        assert all(torch.equal(theirs[name], w) for name, w in role.state_dict().items())


def test_a_run_with_nothing_in_common_is_refused(tmp_path):
    train(tmp_path / "base", *BASE)
    trainer = build_trainer(compose_config("model.hidden_size=24"), RunFolder(tmp_path / "other"))
    with pytest.raises(UserError, match="is one of this model"):
        trainer.warm_start(RunFolder(tmp_path / "base"))


def test_the_user_begins_with_another_run(pir_here, tmp_path, finished_run):
    words = [word for word in conftest.TINY if "max_optimizer_steps" not in word]
    done = pir_here(
        "train", f"init={finished_run}", f"run={tmp_path / 'a'}", *words,
        "trainer.max_optimizer_steps=1",
    )  # fmt: skip
    assert "weights from" in done.stderr
    assert "fresh" not in done.stderr
    none = tmp_path / "none"
    done = pir_here("train", f"init={none}", f"run={tmp_path / 'b'}", *words, code=2)
    assert f"init={none}: there is no such folder" in done.stderr
    none.mkdir()
    done = pir_here("train", f"init={none}", f"run={tmp_path / 'b'}", *words, code=2)
    assert f"init={none}: holds no trained weights" in done.stderr
    assert not (tmp_path / "b").exists()


def test_a_run_goes_on_without_the_run_that_it_began_with(pir_here, tmp_path, finished_run):
    base = shutil.copytree(finished_run, tmp_path / "base")
    words = [word for word in conftest.TINY if "max_optimizer_steps" not in word]
    begun = f"run={tmp_path / 'a'}"
    pir_here("train", f"init={base}", begun, *words, "trainer.max_optimizer_steps=1")
    shutil.rmtree(base)
    done = pir_here("train", f"resume={tmp_path / 'a'}", "trainer.max_optimizer_steps=2")
    assert "solved" in done.stdout


def test_runs_that_began_with_runs_of_their_seed_are_one_group(tmp_path):
    folders = [
        write(tmp_path / f"a_{n}_{seed}", 0.5, seed=seed, settings=f"init: runs/base_{n}_{seed}\n")
        for n in (3, 4)
        for seed in (3, 4, 5)
    ]
    cells = table(*folders, rows=["init"]).cells
    assert [len(cell.entries) for cell in cells.values()] == [3, 3]
    groups = group_by_seed([Run(folder) for folder in folders])
    assert [group.label for group in groups] == [f"init runs/base_{n} (3 seeds)" for n in (3, 4)]


def test_runs_that_began_with_others_are_never_averaged_with_those_that_did_not(tmp_path):
    settings = {1: "init: runs/base_1\n", 2: "init: runs/base_2\n", 3: "init: null\n"}
    folders = [
        write(tmp_path / f"{seed}", seed=seed, settings=text) for seed, text in settings.items()
    ]
    result = table(*folders)
    assert [len(cell.entries) for cell in result.cells.values()] == [2, 1]
    assert "set_likelihood, init=null " in as_text(result, "pir table")
