"""Completion in a shell: what argcomplete answers when a person presses Tab. No run starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.scripts import ran
from tests.look.outside import look, variables

pytest.importorskip("argcomplete")


def completed(folder: Path, line: str) -> list[str]:
    """What the last word of a line, whose first is `python`, may become."""
    answer = folder / "answer"
    answer.unlink(missing_ok=True)
    asked = {"_ARGCOMPLETE": "3" if line.startswith("python -m") else "2", "COMP_LINE": line}
    asked |= {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    words = line.split(" ")[1 : 3 if line.startswith("python -m") else 2]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=variables(**asked), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    return [word.rstrip() for word in answer.read_text().split("\n")]


def test_a_script_completes_its_flags_runs_cells_and_keys(folder: Path) -> None:
    ran(folder)
    assert completed(folder, "python main.py --rep") == ["--report"]
    assert completed(folder, "python main.py --timestamp ") == ["first", "second"]
    assert completed(folder, "python main.py -k exp_lr1") == [f"exp_lr1.0_seed{i}" for i in range(3)]
    assert completed(folder, "python main.py --executor s") == ["subprocess"]
    assert completed(folder, "python main.py mlp.w") == ["mlp.width="]
    assert ran(folder) == []


def test_the_commands_complete_runs_cells_and_outputs(folder: Path) -> None:
    assert {"show", "ls", "rm"} <= set(completed(folder, "python -m pyexp "))
    assert completed(folder, "python -m pyexp show out/mnist/f") == ["out/mnist/first"]
    assert completed(folder, "python -m pyexp show out/mnist/first exp_lr1") == [f"exp_lr1.0_seed{i}" for i in range(3)]
    assert completed(folder, "python -m pyexp best out/mnist/first acc") == ["accuracy"]
    assert completed(folder, "python -m pyexp show nowhere exp") == [""]


def test_no_run_starts_where_the_library_is_missing(folder: Path) -> None:
    ran(folder)
    (folder / "argcomplete.py").write_text("raise ImportError\n")
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, env=variables(_ARGCOMPLETE="1"), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, ran(folder)) == (1, b"", [])


def test_a_command_imports_no_completion(folder: Path) -> None:
    (folder / "argcomplete.py").write_text("raise SystemError\n")
    assert look(folder, "ls").returncode == 0
