"""Rows of tables: which runs stand together, which may be ranked, and what names them."""

from dataclasses import replace

from pir.analysis.pages.table_figure import draw_table
from pir.analysis.pages.table_view import as_markdown, as_text, row_names
from pir.analysis.reading.groups import group_by_seed
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.table import make_table

from tests.test_table import change_json, rows_of, table, write


def test_rows_of_different_puzzles_are_not_ranked(tmp_path):
    folders = [
        write(tmp_path / f"{env}{objective}", share, env=env, objective=objective)
        for env, objective, share in (("maze", "awr", 0.9), ("countdown", "awr", 0.5),
                                      ("maze", "label", 0.8))
    ]  # fmt: skip

    def marks(*folders, **settings):
        result = table(*folders, **settings)
        return [(result.is_best(*at), result.is_tie(*at)) for at in sorted(result.cells)]

    assert marks(*folders, rows=["env", "objective"], columns=["model"]) == [(False, False)] * 3
    assert marks(folders[0], folders[2]) == [(True, False), (False, True)]


def test_seeds_that_are_all_alike_have_no_interval(tmp_path):
    """They tie with what they lie in the interval of, and with nothing by a width of zero."""
    shares = {"awr": (1.0, 1.0, 1.0), "label": (0.9, 0.95, 1.0), "ppo": (0.9, 0.9, 0.9)}
    folders = [
        write(tmp_path / f"{name}{seed}", solved, objective=name, seed=seed)
        for name, values in shares.items()
        for seed, solved in enumerate(values, start=1)
    ]
    for folder in folders:
        change_json(folder / "summary.json", training_forward_passes=690_000 + len(folder.name))
    result = table(*folders)
    assert [cell.interval is None for cell in result.cells.values()] == [True, False, True]
    assert [result.is_tie(i, 0) for i in range(3)] == [False, True, False]
    lines = as_text(result, "pir table").splitlines()
    assert lines[1].split("  ")[-1] == "100.0 % *, 3 seeds"
    assert lines[5].split("  ")[-1] == "0.69 M"  # and not 0.69 M to 0.69 M


def test_a_terminal_of_few_columns_still_has_a_table(tmp_path):
    folder = write(tmp_path / "a", objective="a_name_that_takes_it_all")
    lines = as_text(table(folder), "pir table", 20).splitlines()
    assert "80.0 %" in " ".join(lines[1:3])


# ---------------------------------------------------------------- names


def write_numbers(folder, objective, *numbers, env="countdown", typed=None):
    return [
        write(folder / f"{env}{objective}{count}", env=env, objective=objective,
              settings=f"trainer: {{numbers: {count}}}\n", typed=typed)
        for count in numbers
    ]  # fmt: skip


def test_a_setting_that_names_one_row_names_all_that_were_given_it(tmp_path):
    folders = write_numbers(tmp_path, "awr", 3, 4) + write_numbers(tmp_path, "label", 3)
    result = table(*folders)
    assert row_names(result) == ["awr, numbers=3", "awr, numbers=4", "label, numbers=3"]
    assert result.differing == []


def test_what_a_row_has_otherwise_and_does_not_say_is_told_below(tmp_path):
    folders = write_numbers(tmp_path, "awr", 3, 4)
    default = write_numbers(tmp_path, "label", 4, typed="")
    result = table(*folders, *default)
    assert row_names(result) == ["awr, numbers=3", "awr, numbers=4", "label"]
    assert result.differing == []  # two rows say it, and the default is named by no word
    again = write_numbers(tmp_path, "ppo", 5, typed="")
    assert table(*folders, *default, *again).differing == ["trainer.numbers"]
    maze = write_numbers(tmp_path, "label", 5, env="maze")
    both = table(*folders, *write_numbers(tmp_path / "x", "label", 3), *maze)
    assert row_names(both) == ["awr, numbers=3", "awr, numbers=4", "label"]
    assert both.differing == ["trainer.numbers"]


# ---------------------------------------------------------------- runs that differ


def test_runs_that_differ_in_a_setting_are_never_averaged(tmp_path):
    folders = [
        write(tmp_path / f"{env}{size}{seed}", seed=seed, env=env,
              settings=f"trainer: {{batch_size: {size}}}\n")
        for env, size, seed in (("countdown", 16, 1), ("countdown", 32, 1), ("countdown", 16, 2),
                                ("maze", 16, 1), ("sudoku", 64, 1))
    ]  # fmt: skip
    result = table(*folders)
    text = as_text(result, "pir table", 200).splitlines()
    assert [line.split("  ")[0] for line in text[1:4]] == [
        f"set_likelihood, batch_size={size}" for size in (16, 32, 64)
    ]
    assert [len(result.cells[place].values) for place in ((0, 0), (0, 1), (1, 0), (2, 2))] == [
        2, 1, 1, 1,
    ]  # fmt: skip
    assert result.differing == []
    apart = table(*folders[:1], *folders[3:])
    assert rows_of(apart) == ["set_likelihood"]  # no cell mixes them


def test_choices_stand_for_what_they_set(tmp_path):
    folders = [
        write(tmp_path / f"{model}{beta}", model=model,
              settings=f"trainer: {{beta: {beta}}}\n", seed=seed)
        for seed, (model, beta) in enumerate((("trm", 1), ("gru", 1), ("gru", 2)), start=1)
    ]  # fmt: skip
    result = table(*folders)
    assert rows_of(result) == [
        "set_likelihood, trm, 1", "set_likelihood, gru, 1", "set_likelihood, gru, 2",
    ]  # fmt: skip
    assert "set_likelihood, gru, beta=2 " in as_text(result, "pir table")
    assert "| set_likelihood, gru, `beta=2` |" in as_markdown(result, "pir table")


def test_where_and_how_long_runs_ran_is_free(tmp_path):
    trainers = ("device: cpu\ntrainer: {threads: 1, max_minutes: 9, weight: 1}\n",
                "device: cuda\ntrainer: {threads: 2, max_minutes: 5, weight: 1.0}\n"
                "logger: {_target_: x, folder: y}\n")  # fmt: skip
    folders = [
        write(tmp_path / f"{seed}", seed=seed, settings=settings)
        for seed, settings in enumerate(trainers, start=1)
    ]
    text = (folders[0] / "config.yaml").read_text()
    (folders[0] / "config.yaml").write_text(text.replace("choices: {", "choices: {recipe: maze, "))
    assert len(table(*folders).cells[0, 0].values) == 2


def test_settings_that_rows_do_not_name_are_told(tmp_path):
    folders = [
        write(tmp_path / name, objective=name, settings=f"trainer: {{batch_size: {size}}}\n")
        for name, size in (("awr", 16), ("label", 32))
    ]
    result = table(*folders)
    assert result.differing == ["trainer.batch_size"]
    assert "Rows differ also in trainer.batch_size." in as_text(result, "pir table")


def test_what_no_command_names_parts_no_rows_and_is_told(tmp_path):
    """Another recipe, as of another version, is not what the user varied."""
    folders = [
        write(tmp_path / f"{seed}", seed=seed, settings=f"trainer: {{batch_size: {size}}}\n",
              typed="")
        for seed, size in ((1, 16), (2, 32))
    ]  # fmt: skip
    result = table(*folders)
    assert rows_of(result) == ["set_likelihood"]
    assert len(result.cells[0, 0].values) == 2
    told = "Seeds of a row differ in trainer.batch_size, which no command names."
    assert told in as_text(result, "pir table")
    again = write(tmp_path / "again", seed=1, settings="trainer: {batch_size: 64}\n", typed="")
    assert rows_of(table(*folders, again)) == [
        "set_likelihood, 16", "set_likelihood, 32", "set_likelihood, 64",
    ]  # fmt: skip
    (folders[0] / "command.txt").write_text("python mine.py\n")  # it may have varied anything
    assert len(rows_of(table(*folders))) == 2


def test_a_budget_parts_rows_if_runs_began_with_it(tmp_path):
    def trained(name, seed, steps, typed, **settings):
        text = f"trainer: {{max_optimizer_steps: {steps}, eval_batch_size: {seed}, weight: {seed}}}"
        return write(tmp_path / name, seed=seed, settings=f"{text}\n", typed=typed, **settings)

    whole = [trained("a", 1, 700, ""), trained("b", 2, 1400, "")]  # the second was resumed
    first = "trainer.max_optimizer_steps="
    small = [
        trained("c", 1, 40, f"{first}40 trainer.weight=1"),
        trained("d", 2, 90, f"{first}40 trainer.weight=2"),
    ]
    maze = trained("e", 1, 700, f"{first}700", env="maze")
    result = table(*whole, *small[:1], maze)
    assert row_names(result) == [
        "set_likelihood, max_optimizer_steps=40", "set_likelihood, max_optimizer_steps=700",
        "set_likelihood",
    ]  # fmt: skip
    assert [len(cell.values) for cell in result.cells.values()] == [1, 1, 2]
    assert row_names(table(*small)) == ["set_likelihood, weight=1", "set_likelihood, weight=2"]
    groups = group_by_seed([Run(folder) for folder in (*whole, small[0])])
    assert [len(group.runs) for group in groups] == [1, 1, 1]  # their weights differ
    assert groups[2].label == "max optimizer steps 40"


def test_an_experiment_stands_for_what_it_sets(tmp_path):
    config = "trainer: {{batch_size: {}, warmup_steps: {}, decay_steps: {}}}\n"
    folders = [
        write(tmp_path / "full", settings=config.format(768, 100, 1300), typed=""),
        write(tmp_path / "small", settings=config.format(16, 5, 20), typed="experiment=smoke"),
    ]
    text = (folders[1] / "config.yaml").read_text()
    (folders[1] / "config.yaml").write_text(
        text.replace("choices: {", "choices: {experiment: smoke, ")
    )
    assert row_names(table(*folders)) == ["set_likelihood, smoke", "set_likelihood"]


def test_of_many_settings_rows_are_named_by_as_few_as_needed(tmp_path):
    config = "trainer: {{a: {0}, b: {0}, c: {1}, d: [{1}, 22, 333, 4444], long_name: {0}}}\n"
    folders = [
        write(tmp_path / f"{env}{a}{c}", env=env, settings=config.format(a, c))
        for a, c in ((1, 1), (1, 2), (2, 1))
        for env in ("countdown", "maze", "sudoku", "graph")
    ]
    result = table(*folders)
    assert row_names(result) == [
        "set_likelihood, a=1, c=1", "set_likelihood, a=1, c=2", "set_likelihood, a=2, c=1",
    ]  # fmt: skip
    text = as_text(result, "pir table").splitlines()
    assert max(map(len, text)) <= 80
    assert sum(line.startswith("set_likelihood, a=1, c=2") for line in text) == 4  # in every block
    assert draw_table(result).get_figwidth() < 10
    named = make_table([Run(folder) for folder in folders], ("objective",), ("env",), "solved")
    named = replace(named, labels=("x" * 300, "two", "three"), title="Mine")
    legend = draw_table(named).legends[0].get_texts()
    assert [entry.get_text().replace("\n", "") for entry in legend[:2]] == ["x" * 300, "two"]
    assert max(len(line) for line in legend[0].get_text().splitlines()) <= 100
