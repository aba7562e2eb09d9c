"""Every example does, in an empty folder, what its own first lines say; the commands there are run in order."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMAND = re.compile(r"^ *python (?P<arguments>.*examples/.+)", re.M)


def commands(path: Path) -> list[list[str]]:
    """The argument lists of the commands that an example's docstring shows."""
    head = path.read_text().split('"""')[1]
    return [shlex.split(found["arguments"], comments=True) for found in COMMAND.finditer(head)]


EVERY = {
    str(path.relative_to(EXAMPLES).with_suffix("")): shown
    for path in sorted(EXAMPLES.rglob("*.py"))
    if (shown := commands(path))
}

#: What makes an example a matter of seconds: more arguments for each of its commands.
SHORT = {"torch_resume": ["epochs=6"], "compose/optuna_search": ["10"]}

needs = {
    name: pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}: pip install {name}")
    for name in ("optuna", "torch")
}


def play(name: str, folder: Path) -> list[str]:
    """What the commands of an example print on stdout, one text for each."""
    return [one([*arguments, *SHORT.get(name, [])], folder) for arguments in EVERY[name]]


def started(arguments: list[str], folder: Path) -> "subprocess.Popen[str]":
    arguments = [re.sub("^examples/", f"{EXAMPLES}/", argument) for argument in arguments]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV", "PYTHON"))}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder, env=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def one(arguments: list[str], folder: Path) -> str:
    with started(arguments, folder) as process:
        printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, f"{arguments}: exit status {process.returncode}\n{printed}\n{said}"
    assert "Traceback" not in said, said
    assert "Warning" not in said, said
    assert printed.strip(), f"{arguments} printed nothing"
    return printed


#: What an example prints, command by command: words that have to be there, in this order.
SAYS = {
    "compose/cache_key": [
        ["computed features-", "(1797, 2)", "computed features-2dedec1ca226", "loaded   features-2dedec1ca226"],
        ["loaded   features-", "(1797, 2)", "loaded   features-2dedec1ca226"],
    ],
    "compose/search": [["20 candidates of 3172", "0.9", "svc__C", "svc__kernel"]],
    "compose/test_grid": [["passed in"]],
    "convergence": [["euler", "1.0", "heun", "2.1", "runge_kutta", "4.1", "Look at", "error.png"]],
    "crash_prone": [
        ["good", "slow", "diverges", "failed: FloatingPointError", "hangs", "failed: TimeoutError", "too_large",
         "failed: MemoryError", "crashes", "SIGSEGV", "exits", "failed: SystemExit: no licence", "flaky",
         "failed: ConnectionError", "2 done, 6 failed", "page: "],
        ["load     good", "load     slow", "run      diverges", "with TimeoutError", "2 to load, 6 to run"],
        ["flaky", "0.9999"],
    ],
    "custom_executor/study": [["n10", "0.300442", "n20", "n40", "n80"], ["passed"]],
    "gpus": [["GPU 0 |", "a", "s\n", "GPU 1 |", "s\n"]],
    "torch_resume": [
        ["whole: accuracy", "begun at epoch [0]", "killed: killed by signal 9", "losses.png"],
        ["whole: accuracy", "killed: accuracy", "begun at epoch [0, 4]", "the curves are equal: True", "losses.png"],
    ],
    "with_ray": [["1.5  0.99", "2.0  0.9", "3.5  0.", "magnets.png"]],
}  # fmt: skip
#: Pictures and pages that are to be looked at, and files that come back from elsewhere: how many there are.
LEAVES = {
    "convergence": {"error.png": 1},
    "crash_prone": {"report.html": 1},
    "torch_resume": {"losses.png": 1, "checkpoint.pt": 2},
    "with_ray": {"spins.npy": 8, "magnets.png": 1},
}
MARKS = {
    "torch_resume": [needs["torch"]],
    "with_ray": [pytest.mark.ray, pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")],
}


def check_says(printed: str, words: list[str]) -> None:
    """Fail unless the words are in the text one after the other."""
    at = 0
    for word in words:
        found = printed.find(word, at)
        assert found >= 0, f"{word!r} is not, or not in this place, in\n{printed}"
        at = found + len(word)


def test_every_example_has_its_test_here() -> None:
    assert set(EVERY) == {*SAYS, "digits", "compose/optuna_search"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, []), id=name) for name in SAYS])
def test_an_example_says_what_it_should(name: str, tmp_path: Path) -> None:
    printed = play(name, tmp_path)
    assert len(printed) == len(SAYS[name])
    for text, words in zip(printed, SAYS[name], strict=True):
        check_says(text, words)
    for file, number in LEAVES.get(name, {}).items():
        assert len([*tmp_path.glob(f"out/*/*/{file}"), *tmp_path.glob(f"out/*/*/*/{file}")]) == number


def test_digits_learns_keeps_its_models_and_draws_a_picture(tmp_path: Path) -> None:
    first, again = play("digits", tmp_path)
    assert first == again
    rows = {line.split()[0]: list(map(float, re.findall(r"[\d.]+", line)[::2])) for line in first.splitlines()[3:5]}
    assert rows.keys() == {"svc", "mlp"}
    assert all(0.6 < row[0] < row[-1] <= 1 and row[-1] > 0.9 for row in rows.values()), rows
    (run,) = tmp_path.glob("out/digits/*")
    assert len(list(run.glob("*/model.joblib"))) == len(list(run.glob("*/result.pkl"))) == 18
    assert str(run) in first
    assert (run / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (run / "accuracy.png").stat().st_size > 20_000


@needs["optuna"]
def test_a_killed_search_goes_on_and_repeats_no_finished_cell(tmp_path: Path) -> None:
    script = "examples/compose/optuna_search.py"
    with started([script, "10"], tmp_path) as process:
        while process.poll() is None and len(list(tmp_path.glob("out/svc/study/*/result.pkl"))) < 5:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finished = {path.parent.name.rpartition("-")[0] for path in tmp_path.glob("out/svc/study/*/result.pkl")}
    printed = one([script, "10"], tmp_path)
    ran = (tmp_path / "out/svc/study/ran.txt").read_text().split()
    assert len(finished) >= 5
    assert [name for name in ran if name in finished] == sorted({*finished} & {*ran}, key=ran.index)
    check_says(printed, ["10 trials of 1000000 cells", "best: svc_C", "accuracy of 0.9"])
