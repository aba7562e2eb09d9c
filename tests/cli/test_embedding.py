"""In a notebook, an event loop, a thread or a prompt: no command line is read, and all the rest is as in a script."""

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from pyexp import Config, ExecutorError, Experiment, Results, UsageError
from tests.cli.scripts import go, write

DEFINE = """
import pyexp
from dataclasses import dataclass

SCALE = 10

@dataclass
class Model:
    width: int

def helper(width):
    return SCALE * width

@pyexp.experiment(name="notebook")
def experiment(config):
    with open("ran.txt", "a") as ran:
        ran.write(config.name + "\\n")
    if config.width == 3 and not config.fixed:
        raise ValueError("too wide")
    print("hello")
    return {"area": helper(config.width), "model": Model(config.width)}

@experiment.configs
def configs():
    return [{"name": f"w{width}", "width": width, "fixed": FIXED} for width in (1, 2, 3)]
"""


def notebook(folder: Path, *cells: str) -> list[str]:
    """What each cell of a notebook, run in a kernel of its own, writes to stdout and stderr and shows."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return ["".join(map(_shown, cell["outputs"])) for cell in made["cells"]]


def _shown(output: Any) -> str:
    return str(output["text"] if "text" in output else output["data"]["text/plain"])


# The libraries around a kernel warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("default")


def test_an_experiment_of_a_notebook_runs_in_processes_and_goes_on_in_another_kernel(tmp_path: Path) -> None:
    first = notebook(
        tmp_path,
        "FIXED = False" + DEFINE,
        "results = experiment.run(jobs=2)",
        "results[{'config.width': 2}].item()['model'], results[0]['area']",
    )
    assert "w3 failed after" in first[1]
    assert "w1 done in" not in first[1]
    assert first[1].count("3/3  2 done, 1 left (1 failed)\nwhat a cell prints is in log.txt") == 1  # the one display
    assert "w3  failed: ValueError: too wide" in " ".join(first[1].split("\n")).replace("w3    ", "w3  ")
    assert "to run them again: experiment.run(timestamp='" in first[1]
    assert "\x1b" not in first[1]
    assert first[2] == "(Model(width=2), 10)"
    (tmp_path / "ran.txt").unlink()

    again = notebook(
        tmp_path,
        "FIXED = False" + DEFINE,
        "results = experiment.run(resume=True)",
        "model = results[1]['model']\nisinstance(model, Model), model.width",
        "experiment.plan(resume=True).summary()",
        "experiment.results().to_pandas(arrays=False).shape",
        "async def main():\n    return experiment.run(resume=True)\n\n(await main()).shape",
    )
    assert (tmp_path / "ran.txt").read_text().split() == ["w3", "w3"]
    assert again[2] == "(True, 2)"
    assert again[3] == "'3 cells: 2 to load, 1 to run'"
    assert again[4].startswith("(3, ")
    assert again[5].endswith("(3,)")


def test_what_is_wrong_in_a_notebook_is_an_exception_and_the_kernel_lives(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="there is no run of 'notebook'"):
        notebook(tmp_path, "FIXED = True" + DEFINE, "experiment.run(resume=True)")
    shown = notebook(
        tmp_path,
        "FIXED = True" + DEFINE,
        "try:\n    experiment.run(jobs=0)\nexcept pyexp.UsageError as error:\n    print(error)",
    )
    assert "jobs is 0" in shown[1]


def work(config: Config) -> dict[str, Any]:
    return {"double": 2 * config.x}


CONFIGS = [{"name": "a", "x": 1}, {"name": "b", "x": 2}]


def test_under_a_test_runner_no_command_line_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [sys.argv[0], "--nonsense"])
    results = Experiment(work, output_dir=tmp_path, executor="inline", quiet=True).run(CONFIGS)
    assert [result["double"] for result in results] == [2, 4]


def test_it_runs_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def main() -> Results:
        made: Results = Experiment(work, output_dir=tmp_path, quiet=True).run(CONFIGS)
        return made

    assert [result["double"] for result in asyncio.run(main())] == [2, 4]


def test_it_runs_in_threads_at_a_time(tmp_path: Path) -> None:
    found: dict[str, list[int]] = {}

    def main(name: str) -> None:
        results = Experiment(work, output_dir=tmp_path, name=name, quiet=True).run(CONFIGS)
        found[name] = [result["double"] for result in results]

    threads = [threading.Thread(target=main, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": [2, 4], "two": [2, 4]}


def test_with_python_c_no_command_line_is_read(tmp_path: Path) -> None:
    code = (
        "import pyexp\n"
        "e = pyexp.Experiment(lambda config: {'x': config.x}, name='e', executor='inline')\n"
        "print(e.run([{'x': 1}], report=lambda results: results[0]['x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--nonsense"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_inside_a_program_that_is_not_python_it_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "executable", None)
    trial = Experiment(work, output_dir=tmp_path, executor="inline", quiet=True)
    assert trial.run(CONFIGS, argv=["-k", "b"]).shape == trial.run(CONFIGS[:1]).shape == (1,)
    warnings.simplefilter("ignore", RuntimeWarning)  # other tests may have left a library's threads
    for name in ("fork", "subprocess"):
        with pytest.raises(ExecutorError, match="or use executor='inline'"):
            trial.run(CONFIGS, executor=name)


def test_an_argv_list_is_read_wherever_it_is_given(tmp_path: Path) -> None:
    trial = Experiment(work, output_dir=tmp_path, executor="inline", quiet=True)
    assert trial.run(CONFIGS, argv=["-k", "b"]).shape == (1,)
    with pytest.raises(SystemExit) as refused:
        trial.run(CONFIGS, argv=["--nonsense"])
    assert refused.value.code == 2
    with pytest.raises(SystemExit) as refused:
        trial.run(CONFIGS, argv=["--continue", "--name", "other"])
    assert refused.value.code == 2
    with pytest.raises(UsageError):
        trial.run(CONFIGS, argv=[], jobs=0)


def test_run_returns_what_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Experiment(work, output_dir=tmp_path, executor="inline", quiet=True)
    assert trial.run(CONFIGS, report=lambda results: sum(result["double"] for result in results)) == 6
    assert isinstance(trial.run(CONFIGS, report=True), Results)
    assert trial.run(list_runs=True) is None
    assert "= 2 cells: 2 done  " in capsys.readouterr().out.splitlines()[-1]
    assert trial.results(configs=CONFIGS, select="b").item()["double"] == 4
    (name,) = [path.name for path in (tmp_path / "work").iterdir()]
    assert trial.results(name, CONFIGS).shape == (2,)


def test_inline_cells_in_two_threads_give_back_what_they_took(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The streams and the debugger are the process's own again, whichever cell ends first."""
    events = {name: threading.Event() for name in ("first began", "second began", "first ended")}

    def first(config: Config) -> None:
        events["first began"].set()
        assert events["second began"].wait(60)

    def second(config: Config) -> None:
        events["second began"].set()
        assert events["first ended"].wait(60)

    def go(fn: Any, name: str) -> Any:
        return Experiment(fn, name=name, output_dir=tmp_path, executor="inline", quiet=True).run(CONFIGS[:1], argv=[])

    before = sys.stdout, sys.stderr, sys.breakpointhook
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(go, first, "first")]
        assert events["first began"].wait(60)
        ends.append(pool.submit(go, second, "second"))
        ends[0].result()
        events["first ended"].set()
        assert [each.result()[0].record.status for each in ends] == ["done", "done"]
    assert (sys.stdout, sys.stderr, sys.breakpointhook) == before
    os.write(1, b"seen")
    assert "seen" in capfd.readouterr().out


LEAVES_POOLS = """
import concurrent.futures, multiprocessing
import pyexp

POOLS = []

@pyexp.experiment(executor="inline", quiet=True)
def experiment(config):
    context = multiprocessing.get_context("spawn")
    POOLS.append(concurrent.futures.ProcessPoolExecutor(1, mp_context=context))
    POOLS.append(concurrent.futures.ThreadPoolExecutor(1))
    return [pool.submit(abs, -1).result() for pool in POOLS]

if __name__ == "__main__":
    print(experiment.run([{"name": "a"}], lambda results: results[0].value))
    for pool in POOLS:
        pool.shutdown()
"""


def test_an_inline_cell_ends_though_its_pools_stay_open(tmp_path: Path) -> None:
    """As joblib's do, which are used again by the next call."""
    write(tmp_path, LEAVES_POOLS)
    assert go(tmp_path).stdout == "[1, 1]\n"
