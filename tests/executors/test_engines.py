"""Cells on engines that have `submit`: the contract of `pyexp.testing` on each, and what only engines have."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import Script

import pyexp
from pyexp import Executor, FuturesExecutor, UsageError
from pyexp.executors.base import RunSettings
from pyexp.testing import CARRIED, ON_AN_ENGINE, Behaviour, Lab, executor_behaviours


def process_pool(folder: Path, undo: ExitStack) -> Any:
    return undo.enter_context(ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")))


def loky_pool(folder: Path, undo: ExitStack) -> Any:
    loky = pytest.importorskip("loky")
    pool = loky.ProcessPoolExecutor(3)
    undo.callback(pool.shutdown)
    return pool


def submitit_local(folder: Path, undo: ExitStack) -> Any:
    submitit = pytest.importorskip("submitit")
    pool = submitit.LocalExecutor(folder / "submitit")
    pool.update_parameters(timeout_min=10)
    return pool


def dask_client(folder: Path, undo: ExitStack) -> Any:
    distributed = pytest.importorskip("distributed")
    cluster = undo.enter_context(
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, dashboard_address=None, local_directory=str(folder), silence_logs=50
        )
    )
    return undo.enter_context(distributed.Client(cluster))


def executorlib_local(folder: Path, undo: ExitStack) -> Any:
    executorlib = pytest.importorskip("executorlib")
    return undo.enter_context(executorlib.SingleNodeExecutor(max_workers=3))


ENGINES = {"loky": loky_pool, "submitit": submitit_local, "dask": dask_client, "executorlib": executorlib_local}
#: What differs on one of them in this process, and why.
EXEMPT_ENGINE: dict[str, dict[str, str]] = {
    "loky": {},
    "submitit": {},
    "dask": {},
    "executorlib": {"nothing_is_left_in_this_process": "it starts and ends a process for each job in its own time"},
}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as undo:
        yield process_pool(tmp_path_factory.mktemp("pool"), undo)


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=ON_AN_ENGINE), ids=str)
def test_a_process_pool_keeps_the_contract(behaviour: Behaviour, processes: Any, tmp_path: Path):
    behaviour.check(lambda: FuturesExecutor(processes), tmp_path)


class Simple(Executor):
    """An executor that carries the attempt to a pool, and nothing else."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def run(self, fn, config, result_path):
        return self.pool.submit(pyexp.attempt(fn, config, result_path)).result()


@pytest.mark.long
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=CARRIED), ids=str)
def test_an_executor_of_one_line_keeps_the_contract(behaviour: Behaviour, processes: Any, tmp_path: Path):
    behaviour.check(lambda: Simple(processes), tmp_path)


def test_an_attempt_that_the_run_gives_up_ends_where_it_runs(processes: Any, tmp_path: Path):
    """Otherwise the next attempt would have the same folder at the same time."""
    (killed,) = [each for each in executor_behaviours() if each.name == "timeout_kills"]
    killed.check(lambda: Simple(processes), tmp_path)
    assert not list(tmp_path.rglob("*.pyexp-tmp"))


def test_an_attempt_that_its_executor_has_lost_sight_of_ends_before_the_next(tmp_path: Path):
    class Losing(Executor):
        pool, lost = ThreadPoolExecutor(2), False

        def run(self, fn, config, result_path):
            future = self.pool.submit(pyexp.attempt(fn, config, result_path))
            if not self.lost:
                _wait_for(config.out / "who")
                self.lost = True
                raise ConnectionError("no route to host")
            return future.result()

    def fn(config):
        for _ in range(20):
            with open(config.out / "who", "a") as who:
                who.write(f"{os.getpid()} ")
            time.sleep(0.02)
        return os.getpid()

    executor = Losing()
    (trial,) = Lab(lambda: executor, tmp_path).run_all([(fn, {})], RunSettings(retries=1, durable=False))
    executor.pool.shutdown()
    assert trial.attempts == 1
    assert (trial.folder / "who").read_text().split()[-20:] == [str(trial.value)] * 20


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    with ExitStack() as undo:
        yield request.param, ENGINES[request.param](tmp_path_factory.mktemp("engine"), undo)


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=ON_AN_ENGINE), ids=str)
def test_an_engine_keeps_the_contract(behaviour: Behaviour, engine: tuple[str, Any], tmp_path: Path):
    name, pool = engine
    if behaviour.name in EXEMPT_ENGINE[name]:
        pytest.skip(EXEMPT_ENGINE[name][behaviour.name])
    behaviour.check(lambda: FuturesExecutor(pool), tmp_path)


# What engines do that nobody else does


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), path


def test_an_engine_that_loses_a_cell_is_that_cells_failure(tmp_path: Path):
    """The worker of the pool is killed, by the cell: the error is the engine's own."""

    def fn(config):
        os.kill(config.worker, signal.SIGKILL)
        time.sleep(60)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        worker = pool.submit(os.getpid).result()
        trial = Lab(lambda: FuturesExecutor(pool), tmp_path).run(fn, worker=worker)
    trial.failed("BrokenProcessPool")
    assert not list(trial.folder.glob(".*"))


def test_what_was_committed_counts_also_if_the_engine_loses_the_outcome(tmp_path: Path):
    class Losing:
        def submit(self, fn, *args):
            future: Future[Any] = Future()
            fn(*args)
            future.set_exception(ConnectionError("the scheduler went away"))
            return future

    Lab(lambda: FuturesExecutor(Losing()), tmp_path).run(lambda config: 7).done(7)


def test_an_engine_that_gives_something_else_is_told_so(tmp_path: Path):
    class Odd:
        def submit(self, fn, *args):
            future: Future[Any] = Future()
            future.set_result(None)
            return future

    Lab(lambda: FuturesExecutor(Odd()), tmp_path).run(lambda config: 7).failed("ExecutorError", "the engine gave None")


def test_an_engine_that_refuses_a_cell_is_that_cells_failure(tmp_path: Path):
    with ThreadPoolExecutor(1) as pool:
        pass
    trial = Lab(lambda: FuturesExecutor(pool), tmp_path).run(lambda config: 7)
    trial.failed("RuntimeError", "cannot schedule new futures")
    assert not list(trial.folder.glob(".*"))


def test_a_cell_that_waits_in_the_engine_never_begins_once_the_run_is_stopped(tmp_path: Path):
    """It is the file in the cell's folder that says so: the engine may have no way to cancel."""
    from pyexp.executors.attempts import PackedCell, packed, perform

    luggage = packed(lambda config: (config.out / "ran").touch(), RunSettings(durable=False))
    for name, content in (("gone", None), ("asked", b""), ("wanted", b"1")):
        folder = tmp_path / name
        folder.mkdir()
        if content is not None:
            (folder / "wanted").write_bytes(content)
        outcome = perform(PackedCell.of(luggage, pyexp.freeze({}), str(folder), str(folder / "wanted")))
        assert (folder / "ran").exists() == (content == b"1")
        assert outcome["status"] == ("done" if content == b"1" else "failed")


def test_a_machine_that_does_not_see_the_folder_or_has_another_pyexp_says_so(tmp_path: Path):
    from pyexp.executors.attempts import PackedCell, packed, perform

    cell = PackedCell.of(packed(lambda config: 1, RunSettings()), pyexp.freeze({}), str(tmp_path / "elsewhere"))
    assert "all machines have to see the output folder" in perform(cell)["message"]
    old = cell._replace(luggage=cell.luggage._replace(version="pyexp 0 on Python 2"))
    assert "the run was started by pyexp 0 on Python 2" in perform(old)["message"]


def test_an_engine_that_runs_a_cell_twice_makes_one_attempt(tmp_path: Path):
    """The scheduler lost sight of its worker, and gave the cell to another one."""

    class Twice:
        def __init__(self):
            self.pool = ThreadPoolExecutor(2)

        def submit(self, fn, *args):
            self.pool.submit(fn, *args)
            _wait_for(tmp_path / "cell" / "ran")
            return self.pool.submit(fn, *args)

    def fn(config):
        with open(config.out / "ran", "a") as ran:
            ran.write("once ")
        time.sleep(0.3)
        return 7

    pool = Twice()
    trial = Lab(lambda: FuturesExecutor(pool), tmp_path).run(fn)
    trial.done(7)
    pool.pool.shutdown()
    assert (trial.folder / "ran").read_text() == "once "


def test_a_cell_waits_for_the_attempt_that_a_killed_run_has_left_on_an_engine(tmp_path: Path):
    from pyexp.store import claims, records

    left = tmp_path / ".wanted.0123456789abcdef.pyexp-tmp"
    left.write_bytes(b"1")
    told: list[str] = []

    def attempt():
        with claims.held(str(left)):
            began.set()
            while left.exists():
                time.sleep(0.01)
            time.sleep(0.1)
            told.append("ended")

    began = threading.Event()
    thread = threading.Thread(target=attempt)
    thread.start()
    began.wait(60)
    records.end_attempts(str(tmp_path))
    assert told == ["ended"]
    thread.join()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FuturesExecutor(ProcessPoolExecutor), r"such as ProcessPoolExecutor\(4\)"),
        (lambda: FuturesExecutor(4), "an object that has submit"),
        (lambda: FuturesExecutor(ThreadPoolExecutor(1), jobs=0), "jobs is 0"),
        (lambda: pyexp.attempt(len, {}, "cell/other.pkl"), r"takes the path of a cell's result\.pkl"),
    ],
)
def test_what_cannot_be_an_engine_is_refused(make: Any, words: str):
    with pytest.raises(UsageError, match=words):
        make()


_SCRIPT = """
import os, time
from concurrent.futures import ThreadPoolExecutor
import pyexp

class OnPool(pyexp.Executor):
    def __init__(self):
        self.pool = ThreadPoolExecutor(2)

    def run(self, fn, config, result_path):
        return self.pool.submit(pyexp.attempt(fn, config, result_path)).result()

    def close(self):
        self.pool.shutdown()
        print("closed")

@pyexp.experiment(name="e")
def experiment(config):
    print("hello from", config.name)
    if config.name == "a":
        raise ValueError("diverged")
    (config.out / "pid").write_text(str(os.getpid()))
    time.sleep(float(os.environ.get("SECONDS", 0)))
    return config.name

if __name__ == "__main__":
    pool = ThreadPoolExecutor(2)
    executor = OnPool() if os.environ.get("OWN") else pyexp.FuturesExecutor(pool)
    experiment.run(configs=[{"name": name} for name in "abcd"], executor=executor,
                   report=lambda results: print(*[r.record.type or r.value for r in results]))
"""


def test_an_executor_of_users_has_logs_true_errors_and_an_end(script: Script):
    script.write(_SCRIPT)
    done = script.run("-j", "2", env={**os.environ, "OWN": "1"})
    assert done.stdout == "closed\nValueError b c d\n", done.stderr
    assert script.record("a")["error"]["message"] == "diverged"
    assert script.record("a")["seconds"] > 0
    (log,) = script.folder.glob("out/e/run/a-*/log.txt")
    assert log.read_text().startswith("hello from a\nTraceback")


def test_ctrl_c_ends_the_cells_that_an_engine_runs(script: Script, gone: Any):
    script.write(_SCRIPT)
    process = script.start(env={**os.environ, "SECONDS": "60"})
    notes = script.wait_for("out/e/run/*/pid", 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "to go on: python main.py" in said
    gone(*notes)
    assert not list(script.folder.glob("out/e/run/*/.*wanted*"))


def test_cells_that_a_killed_run_left_on_an_engine_end_when_it_goes_on(script: Script, gone: Any):
    """The pool outlives the run here, as Slurm's jobs do."""
    script.write(_SCRIPT)
    from pyexp.executors.attempts import PackedCell, packed, perform

    process = script.start(env={**os.environ, "SECONDS": "60"})
    (note, *_) = script.wait_for("out/e/run/b-*/pid")
    process.kill()
    process.communicate()
    gone(note)
    with ThreadPoolExecutor(1) as pool:
        (wanted,) = note.parent.glob(".*wanted*")
        note.unlink()
        fn = lambda config: ((config.out / "pid").write_text("1"), time.sleep(60))  # noqa: E731
        cell = PackedCell.of(packed(fn, RunSettings(durable=False)), pyexp.freeze({}), str(note.parent), str(wanted))
        left = pool.submit(perform, cell)
        _wait_for(note)
        assert script.run(env={**os.environ, "SECONDS": "0"}).stdout == "ValueError b c d\n"
        assert left.result(timeout=60)["type"] == "Cancelled"


def test_the_result_of_other_code_is_not_that_of_the_cell(tmp_path: Path):
    """As a cell of an earlier run commits it, before it notices that the run goes on with edited code."""
    from pyexp.executors.base import Task
    from pyexp.executors.loop import finished
    from pyexp.store import files, pickling

    for code, status in (("1234", "done"), ("", "done"), ("5678", None)):
        files.commit(str(tmp_path / "result.pkl"), pickling.dumps(7, "result"), durable=False, code=code)
        outcome = finished(Task("a", lambda config: 7, pyexp.freeze({}), str(tmp_path), code="1234"), None)
        assert (outcome and outcome["status"]) == status


class Silent(Future[Any]):
    """A future that never says that it is done."""

    def done(self) -> bool:
        return False

    def cancel(self) -> bool:
        return False


class SilentPool:
    """An engine that runs a cell to its end, and does not notice."""

    def submit(self, call: Any, cell: Any) -> Silent:
        call(cell)
        return Silent()


def test_a_cell_that_finished_unnoticed_has_a_time_when_the_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyexp.executors import futures
    from pyexp.executors.base import RunSettings, StopRequest, Task
    from pyexp.executors.loop import schedule

    monkeypatch.setattr(futures, "PATIENCE", 0.1)
    stop = StopRequest()
    folder = tmp_path / "a-0123456789ab"
    folder.mkdir()

    def stop_now() -> None:
        stop.count = 1

    task = Task("a", len, pyexp.freeze({"name": "a"}), str(folder), code="abcd")
    settings = RunSettings(grace=0.1, durable=False)
    with FuturesExecutor(SilentPool()).session(len, settings, stop) as session:
        (ended,) = schedule(session, iter([task]), stop_now)
    assert ended.outcome["status"] == "done"
    assert 0 <= ended.seconds < 60
