"""A misspelt attribute ends a script with one hint: pyexp's, and none that Python adds to it."""

import subprocess
import sys
from pathlib import Path

import pytest

RESULT = """
import pyexp

@pyexp.experiment(name="e", executor="inline", quiet=True)
def experiment(config):
    return {"accuracy": 1 / config.x}

results = experiment.run(configs=[{"name": "good", "x": 1}, {"name": "bad", "x": 0}], report=lambda results: results)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import pyexp; pyexp.Config(learning_rate=1).lerning_rate",
            "AttributeError: Config has no attribute 'lerning_rate'; did you mean 'learning_rate'?",
        ),
        ("import pyexp; pyexp.Config(a=1).itms", "AttributeError: Config has no attribute 'itms'; there is 'a'"),
        ("import pyexp; del pyexp.Config(a=1).aa", "AttributeError: Config has no attribute 'aa'; did you mean 'a'?"),
        (
            RESULT + "results[0].acuracy",
            "pyexp.errors.ResultError: result 'good' has no 'acuracy'; did you mean 'accuracy'?",
        ),
        (
            RESULT + "results[1].value",
            "pyexp.errors.ResultError: 'bad' failed with ZeroDivisionError: division by zero: it has no value",
        ),
    ],
)
def test_a_misspelt_attribute_has_one_hint(code: str, said: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == said
