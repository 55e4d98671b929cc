"""Rows of tables: which may be ranked, and what names them."""

from pir.analysis.pages.table_view import as_text, row_names

from tests.test_table import change_json, table, write


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
