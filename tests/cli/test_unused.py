"""A script that defines experiments and does nothing with them says so when it ends, and no other script does."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyexp.worker.script import is_used

DEFINED = """
import pyexp

@pyexp.experiment(name="mnist")
def train(config):
    return 1

@train.configs
def configs():
    return [{"x": 1}]

@pyexp.experiment
def other(config):
    return 1
"""


@pytest.mark.parametrize(
    ("end", "is_told"),
    [
        ("", True),
        ("if __name__ == '__main__':\n    train.run", True),
        ("if __name__ == 'main':\n    train.run()", True),
        ("train.plan()", False),
        ("if __name__ == 'main':\n    train.run()\nelse:\n    other.results()", False),
        ("registry = [train]", False),
        ("print(train.name, pyexp.config_hash({}))", False),
        ("def main():\n    return other({'x': 1})", False),
        ("globals()[name].run()", False),
        ("__all__ = ['train']", False),
        ("getattr(sys.modules[__name__], name).run()", False),
        ("import unittest\nunittest.main()", False),
        ("from fire import Fire\nFire()", False),
        ("model.eval()\ngetattr(torch, name)", True),
        ("@register\n@pyexp.experiment\ndef train(config): ...", False),
        ("@pyexp.experiment\n@torch.no_grad()\ndef train(config): ...", True),
    ],
)
def test_what_only_defines_experiments_is_told_from_what_uses_one(end: str, is_told: bool) -> None:
    assert is_used((DEFINED + end).encode(), ["train", "other"]) is not is_told


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("train.run", "note: main.py defines the experiment 'mnist' and never runs it; call train.run()\n"),
        ("from importlib import import_module\nimport_module('__mai' 'n__').train.run(dry_run=True)", ""),
        ("1 / 0", "ZeroDivisionError: division by zero\n"),
        ("if __name__ == '__main__':\n    import main\n    getattr(main, 'train')({'x': 1})", ""),
    ],
)
def test_a_script_that_runs_nothing_says_so_in_a_line(end: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(DEFINED + end)
    done = subprocess.run([sys.executable, "main.py"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.endswith(said)
    assert done.stderr.count("note") == said.count("note")


def test_a_program_that_imports_experiments_says_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(DEFINED)
    (tmp_path / "use.py").write_text("import main\nfrom main import train")
    done = subprocess.run([sys.executable, "use.py"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
