"""Every example does, in an empty folder, what its own first lines say; the commands there are run in order."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
COMMAND = re.compile(r"^ *python examples/(?P<arguments>.+)", re.M)


def commands(name: str) -> list[list[str]]:
    """The argument lists of the commands that an example's docstring shows."""
    head = (EXAMPLES / f"{name}.py").read_text().split('"""')[1]
    return [shlex.split(found["arguments"], comments=True) for found in COMMAND.finditer(head)]


def play(name: str, folder: Path) -> list[str]:
    """What the commands of an example print on stdout, one text for each."""
    return [one(arguments, folder) for arguments in commands(name)]


def one(arguments: list[str], folder: Path) -> str:
    script, *options = arguments
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        check=False, cwd=folder, env=inherited, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout.strip(), f"{arguments} printed nothing"
    return done.stdout


#: What an example prints, command by command: words that have to be there, in this order.
SAYS = {
    "alternative_api": [["report returns: 14", "the function: 49", "[1, 4, 9]", "3 cells: 3 to load"]],
    "caching": [
        ["x1 1 (try 1)", "x2 4 (try 1)", "x3 the first try at 3 fails"],
        ["x1 1 (try 1)", "x2 4 (try 1)", "x3 9 (try 2)"],
        ["load", "load", "load", "3 cells: 3 to load"],
        ["x1 1 (try 1)", "x2 4 (try 1)", "x3 9 (try 2)"],
        ["x1 1 (try 1)", "x2 4 (try 1)", "x3 the first try at 3 fails"],
    ],
    "config_class": [["made it 0.02", "still says 0.01", "did you mean 'learning_rate'?"]],
    "configuration": [["results"], ["elsewhere"]],
    "custom_executor": [["running x1 for x1-", "running x2 for x2-", "x1", "1", "x2", "4"]],
    "dot_notation": [
        ["exp_w64 {'depth': 2, 'width': 64} 8192", "exp_w128 {'depth': 2, 'width': 128} 32768", "{'width': 64}"]
    ],
    "filtering": [
        ["lr0.1: (1, 1, 2, 2)", "e10: (1, 2, 1, 2)", "value: (1, 1, 2, 2)", "constraints: (1, 1, 1, 2)", "one: 16384",
         "good: ['exp_lr0.01_e100_w64', 'exp_lr0.01_e100_w128']", "0.2 in no item; there is 0.1, 0.01"]
    ],
    "folders": [["out/my_experiment/20", "/one-", "out/mnist/one-", "out/mnist/one-", "out/mnist/v2/one-"]],
    "indexing": [
        ["(1, 2, 2) ['axis_0', 'learning_rate', 'epochs']", "['exp_lr0.1_e10', 'exp_lr0.1_e100']",
         "exp_lr0.01_e10 0.999", "last: exp_lr0.01_e100", "[[0.999, 0.9999]]"]
    ],
    "modes": [["subprocess: in a process of its own: True", "fork", "True", "inline", "False"], ["False"]],
    "output_directory": [
        ["seed0 {'weights': [0, 0, 0]} this line goes to log.txt", "seed1 {'weights': [1, 1, 1]} this line"]
    ],
    "quickstart": [["fast: 0.95", "slow: 0.95", "['fast']"]],
    "robust": [
        ["returns: 0.95", "raises failed: ValueError: the", "exits failed: SystemExit: 3", "crashes failed: Killed",
         "SIGSEGV"]
    ],
    "sweeps": [
        ["shape (1, 2, 2)", "exp_lr0.1_e10 1.0", "exp_lr0.1_e100 10.0", "exp_lr0.01_e10 0.1", "exp_lr0.01_e100 1.0"],
        ["shape (1, 2, 1)", "exp_lr0.1_e10", "exp_lr0.01_e10"],
    ],
}  # fmt: skip


def check_says(printed: str, words: list[str]) -> None:
    """Fail unless the words are in the text one after the other."""
    at = 0
    for word in words:
        found = printed.find(word, at)
        assert found >= 0, f"{word!r} is not, or not in this place, in\n{printed}"
        at = found + len(word)


def test_every_example_has_its_test_here() -> None:
    assert set(NAMES) == {*SAYS, "digits", "with_ray"}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_it_should(name: str, tmp_path: Path) -> None:
    printed = play(name, tmp_path)
    assert len(printed) == len(SAYS[name])
    for text, words in zip(printed, SAYS[name], strict=True):
        check_says(text, words)


@pytest.mark.ray
@pytest.mark.skipif(not any(distributions(name="ray")), reason="needs the extra [ray]")
def test_the_example_with_ray_computes_squares_and_brings_the_files_back(tmp_path: Path) -> None:
    (printed,) = play("with_ray", tmp_path)
    check_says(printed, ["x0", "0", "x1", "1", "x2", "4", "x3", "9"])
    assert len(list(tmp_path.glob("out/with_ray/*/*/where.txt"))) == 4


def test_digits_learns_keeps_its_models_and_draws_a_picture(tmp_path: Path) -> None:
    first, again = play("digits", tmp_path)
    assert first == again
    rows = {line.split()[0]: list(map(float, line.split()[1:])) for line in first.splitlines()[3:5]}
    assert rows.keys() == {"svc", "mlp"}
    assert all(0.6 < row[0] < row[-1] <= 1 and row[-1] > 0.9 for row in rows.values()), rows
    (run,) = tmp_path.glob("out/digits/*")
    assert len(list(run.glob("*/model.joblib"))) == len(list(run.glob("*/result.pkl"))) == 18
    assert str(run) in first
    assert (run / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (run / "accuracy.png").stat().st_size > 20_000
