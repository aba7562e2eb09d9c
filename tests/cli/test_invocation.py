"""The command line is read behind every way to start a program that leads to `run()`, or a line says that it is not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.scripts import environment, go, write

STUDY = """
import asyncio, contextlib, functools
import pyexp

@pyexp.experiment(name="study", executor="inline")
def experiment(config):
    return config.x

@experiment.configs
def configs():
    return [{"name": "a", "x": 1}]

def main():
    experiment.run()

def within_asyncio():
    async def work():
        main()
    asyncio.run(work())

def within_partial():
    return functools.partial(main)()

def within_context():
    with contextlib.ExitStack() as stack:
        stack.callback(main)

def within_other():
    import study.other
"""
#: What an installer writes for `train = "study:main"`.
ENTRY = """
import re
import sys
from study import {0}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({0}())
"""
CALLS = ["main", "within_asyncio", "within_partial", "within_context", "within_other"]
STARTS = {
    "an entry point": ["bin/train"],
    "a script": ["main.py"],
    "a script by its path": [str(Path("..") / "{here}" / "main.py")],
    "a module": ["-m", "study.start"],
    "a package": ["-m", "study"],
    "a folder": ["study"],
    "cProfile": ["-m", "cProfile", "-o", "profile", "main.py"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bin", "study", "site-packages/library"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "study" / "__init__.py").write_text(STUDY)
    (tmp_path / "study" / "other.py").write_text("from study import main\nmain()\n")
    (tmp_path / "site-packages" / "library" / "__init__.py").write_text("def call(fn):\n    return fn()\n")
    return tmp_path


def start(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    paths = ":".join([str(folder), str(folder / "site-packages"), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, *(word.format(here=folder.name) for word in command)],
        cwd=folder, env=environment(PYTHONPATH=paths), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", STARTS.values(), ids=STARTS)
def test_the_command_line_is_read_however_the_program_is_started(folder: Path, how: list[str], call: str) -> None:
    for place in ("bin/train", "main.py", "study/start.py", "study/__main__.py"):
        (folder / place).write_text(ENTRY.format(call))
    done = start(folder, *how, "-n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(new)" in done.stdout
    assert not (folder / "out").exists()
    if call == "main":
        assert "error: unknown option '--nonsense'" in start(folder, *how, "--nonsense").stderr


def test_the_command_line_of_an_entry_point_on_windows_is_read(folder: Path) -> None:
    """It is an archive that is called `train.exe`, and `sys.argv` begins with `train`."""
    with zipfile.ZipFile(folder / "bin" / "train.exe", "w") as archive:
        archive.writestr("__main__.py", ENTRY.format("main"))
    assert "(new)" in start(folder, "bin/train.exe", "-n").stdout


def test_a_folder_and_an_archive_have_names_of_their_own(folder: Path) -> None:
    """So that none of them continues the run of another."""
    text = STUDY + "\nif __name__ == '__main__':\n    main()\n"
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "__main__.py").write_text(text)
    with zipfile.ZipFile(folder / "three.pyz", "w") as archive:
        archive.writestr("__main__.py", text)
    assert start(folder, "one").returncode == 0
    assert "1 cell: 1 to load" in start(folder, "-m", "one", "--continue", "-n").stdout
    for name in ("two", "three.pyz"):
        said = start(folder, name, "--continue").stderr
        assert f"was begun by '{name.partition('.')[0]}'; its runs were begun by 'one'" in said
    assert "to go on: python three.pyz --stop-after" in start(folder, "three.pyz", "--stop-after", "1e-9").stderr


def test_the_folder_that_one_is_in_is_started_as_it_was_typed(folder: Path) -> None:
    """Even if the script goes to another folder: the terminal does not."""
    (folder / "__main__.py").write_text(
        f"import os\n{STUDY}\nos.chdir('bin')\nif __name__ == '__main__':\n    main()\n"
    )
    told = start(folder, ".", "--stop-after", "1e-9")
    assert told.returncode == 75
    assert "to go on: python . --stop-after" in told.stderr
    assert "to go on: python __main__.py --stop-after" in start(folder, "__main__.py", "--stop-after", "1e-9").stderr


PROGRAMS = {
    "the program of a library": "from study import main\nfrom library import call\ncall(main)\n",
    "tests": "import unittest\nfrom study import main\n"
    "class Test(unittest.TestCase):\n    def test_it(self):\n        main()\nunittest.main(argv=['x'])\n",
    "a thread": "from threading import Thread\nfrom study import main\nThread(target=main).start()\n",
}


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_is_another_s_has_a_command_line_of_its_own(folder: Path, text: str) -> None:
    (folder / "main.py").write_text(text)
    done = start(folder, "main.py", "--nonsense")
    assert done.returncode == 0, done.stderr
    assert "1 done" in done.stderr
    assert "command line" not in done.stderr


def test_a_program_of_python_itself_has_a_command_line_of_its_own(folder: Path) -> None:
    (folder / "main.py").write_text('"""\n>>> from study import main\n>>> main()\n"""\n')
    assert "1 done" in start(folder, "-m", "doctest", "main.py").stderr


def test_where_a_library_calls_what_calls_run_a_line_says_that_nothing_is_read(folder: Path) -> None:
    (folder / "study" / "start.py").write_text("import library, study\ndef go():\n    library.call(study.main)\n")
    (folder / "main.py").write_text("from study.start import go\ngo()\n")
    done = start(folder, "main.py", "--dry-run", "-q")
    assert (
        "note: the command line (--dry-run -q) is not read, because 'library' calls run(); "
        "run(argv=sys.argv[1:]) reads it, and run(argv=[]) switches off this note\n"
    ) in done.stderr
    assert "1 done" in done.stderr
    assert "note" not in start(folder, "main.py").stderr
    done = start(folder, "-c", "from study import main; main()", "--dry-run")
    assert (
        "note: the command line (--dry-run) is not read, because the program was started with python -c;" in done.stderr
    )
    assert "note" not in start(folder, "-c", "from study import main; main()").stderr


TWO = """
import pyexp

@pyexp.experiment(executor="inline", quiet=True)
def first(config):
    return config.x

@pyexp.experiment(executor="inline", quiet=True)
def second(config):
    return config.y

def configs(key):
    return [{"name": f"{key}{i}", key: 0, "i": i} for i in range(2)]

def show(results):
    for result in results:
        print(result["name"], result["value"])

first.run(configs("x"), show)
second.run(configs("y"), show)
"""
#: What is printed for a command line, and how often a line says that nothing of an experiment is run.
FOR_ONE = {
    "": ("x0 0 x1 0 y0 0 y1 0", 0),
    "-k x1": ("x1 0", 1),
    "-k y1": ("y1 0", 1),
    "-k *1": ("x1 0 y1 0", 0),
    "x=5": ("x0 5 x1 5", 1),
    "y=5": ("y0 5 y1 5", 1),
    "-k y0 y=5": ("y0 5", 1),
}


@pytest.mark.parametrize("line", FOR_ONE)
def test_what_is_meant_for_one_experiment_of_a_script_is_no_error_for_the_other(tmp_path: Path, line: str) -> None:
    write(tmp_path, TWO)
    printed, number = FOR_ONE[line]
    done = go(tmp_path, *line.split())
    assert (done.returncode, done.stdout.split()) == (0, printed.split())
    assert done.stderr.count("note: nothing of ") == number == len(done.stderr.splitlines())


REGISTERED = TWO.partition("first.run(")[0] + (
    "first.configs(lambda: configs('x'))\nsecond.configs(lambda: configs('y'))\nfirst.run(report=show)\n"
)


@pytest.mark.parametrize(("script", "line"), [
    (TWO, "-k z1"), (TWO, "z=5"), (TWO, "x=five"), (TWO, "-k x1 y=5"), (REGISTERED, "-k z1"), (REGISTERED, "z=5"),
])  # fmt: skip
def test_what_is_meant_for_none_of_them_is_an_error(tmp_path: Path, script: str, line: str) -> None:
    write(tmp_path, script)
    done = go(tmp_path, *line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr.splitlines()[-1]


def test_what_another_one_may_take_is_left_to_it_also_if_it_is_not_run(tmp_path: Path) -> None:
    write(tmp_path, REGISTERED)
    done = go(tmp_path, "-k", "y1")
    assert (done.returncode, done.stdout) == (0, "")
    assert "note: nothing of 'first' is run, as the command line is for another experiment" in done.stderr
