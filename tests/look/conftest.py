"""A folder in which a script has made two runs: of the first, half the cells failed."""

import shutil
from pathlib import Path

import pytest

from tests.cli.scripts import go, write


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write(folder)
    for words in (["--timestamp", "first"], ["--timestamp", "second", "fixed=True"]):
        done = go(folder, "-q", "--executor", "inline", *words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it: `out/mnist/first` and `out/mnist/second`."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def first(folder: Path) -> Path:
    return folder / "out" / "mnist" / "first"


@pytest.fixture
def second(folder: Path) -> Path:
    return folder / "out" / "mnist" / "second"
