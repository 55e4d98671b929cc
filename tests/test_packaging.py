"""The wheel is complete, and the source folders have one identity."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("pir", "envs", "configs", "analysis")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "pir"
    source.mkdir()
    tracked = [*FOLDERS, "pyproject.toml", "setup.py", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in tracked), source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q"]
    subprocess.run([*command, "-w", str(out), str(source)], check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.mark.slow
def test_wheel_holds_every_module_setting_and_template(wheel):
    names = set(wheel.namelist())
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".html", ".json", ".py", ".safetensors", ".yaml"):
                inside = file.relative_to(ROOT).as_posix()
                assert inside.removeprefix("pir/") in {n.removeprefix("pir/") for n in names}
    assert "pir/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "pir",
        "policy_improvement_reasoners",
    }


@pytest.mark.parametrize("folder", ["envs", "analysis"])
def test_folders_refuse_a_second_identity(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"this folder is the package pir.{folder}" in done.stderr


def test_the_engine_names_no_puzzle_and_no_figure():
    """Imports point one way: commands may use everything, the engine only itself."""
    for file in (ROOT / "pir").rglob("*.py"):
        text = file.read_text()
        if "cli" in file.parts:
            continue
        assert "pir.analysis" not in text.replace("`", "") or file.name == "__init__.py", file
        assert "pir.cli.commands" not in text, file
        for line in text.splitlines():
            if line.lstrip().startswith(("import ", "from ")):
                assert "pir.envs" not in line, f"{file}: {line}"
