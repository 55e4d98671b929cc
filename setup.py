"""Maps the top-level folders into the package; pyproject.toml holds everything else."""

from setuptools import find_packages, setup

FOLDERS = ("envs", "configs", "analysis")
mapped = [f"pir.{p}" for p in find_packages(include=[g for f in FOLDERS for g in (f, f"{f}.*")])]

setup(
    packages=find_packages(include=["pir", "pir.*"]) + mapped,
    package_dir={f"pir.{folder}": folder for folder in FOLDERS},
)
