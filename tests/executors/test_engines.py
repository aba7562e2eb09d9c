"""Cells on engines that have `submit`: the contract of `pyexp.testing` on each, and what only engines have."""

import multiprocessing
import os
import signal
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
from pyexp.testing import Behaviour, Lab, executor_behaviours

#: What differs on every engine, and why.
EXEMPT = {
    "environment_is_the_cells_own": "a cell has the environment of the engine's process, as that was started",
}
#: What differs for an executor that calls `pyexp.attempt` and waits for the outcome in a thread.
EXEMPT_SIMPLE = EXEMPT | {
    "timeout_kills": "the timeout is given to `attempt`, and a thread that waits is left to itself",
    "timeout_kills_what_is_stopped": "as timeout_kills",
    "timeout_kills_what_descends_from_the_cell": "as timeout_kills",
    "timeout_leaves_the_stacks_in_the_log": "as timeout_kills",
    "threads_are_waited_for_within_the_timeout": "as timeout_kills",
    "shared_memory_goes_with_the_cell": "one of its cells exceeds the timeout",
    "halt_ends_what_runs": "a thread that waits is left to itself, and so is its cell",
}


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
    "executorlib": {},
}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as undo:
        yield process_pool(tmp_path_factory.mktemp("pool"), undo)


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT), ids=str)
def test_a_process_pool_keeps_the_contract(behaviour: Behaviour, processes: Any, tmp_path: Path):
    behaviour.check(lambda: FuturesExecutor(processes), tmp_path)


class Simple(Executor):
    """The executor of docs/how-to/custom-executor.md."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def run(self, fn, config, result_path):
        return self.pool.submit(pyexp.attempt(fn, config, result_path)).result()


@pytest.mark.long
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT_SIMPLE), ids=str)
def test_an_executor_of_one_line_keeps_the_contract(behaviour: Behaviour, processes: Any, tmp_path: Path):
    behaviour.check(lambda: Simple(processes), tmp_path)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    with ExitStack() as undo:
        yield request.param, ENGINES[request.param](tmp_path_factory.mktemp("engine"), undo)


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT), ids=str)
def test_an_engine_keeps_the_contract(behaviour: Behaviour, engine: tuple[str, Any], tmp_path: Path):
    name, pool = engine
    if behaviour.name in EXEMPT_ENGINE[name]:
        pytest.skip(EXEMPT_ENGINE[name][behaviour.name])
    behaviour.check(lambda: FuturesExecutor(pool), tmp_path)
