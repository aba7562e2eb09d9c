"""The node's side alone: what a supervisor keeps for the next cell, and what becomes of it."""

import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra [ray] is not installed")

import pyexp
from pyexp.executors import processes
from pyexp.executors.attempts import Luggage
from pyexp.executors.base import RunSettings
from pyexp.executors.processes import import_path
from pyexp.executors.ray import connection as ray_connection
from pyexp.executors.ray import node as ray_node
from pyexp.worker import guardian
from pyexp.worker.messages import Lack
from pyexp.worker.naming import Shipment

pytestmark = pytest.mark.ray

SETTINGS = RunSettings(durable=False)


def who(config):
    import os

    return os.getppid()


def first_ends_the_server(config):
    import os
    import signal

    if config["out"].name == "1":
        os.kill(os.getppid(), signal.SIGKILL)
    return os.getppid()


def slow(config):
    import os
    import time

    (config["out"] / "pid").write_text(str(os.getpid()))
    time.sleep(30)  # then it returns, and the test fails


def hang():
    import time

    time.sleep(60)


def kit(fn: Callable = who, initializer: Callable | None = None, settings: RunSettings = SETTINGS) -> Luggage:
    fn.__module__ = hang.__module__ = "__main__"  # by value
    shipment = Shipment(fn, initializer, import_path())
    return Luggage(pickle.dumps(shipment.kit), shipment.rest(Lack()), [], settings)


@pytest.fixture(autouse=True)
def head(monkeypatch) -> None:
    """In place of a cluster: a head that answers, and has no nodes."""
    monkeypatch.setattr("ray.nodes", list)


@pytest.fixture
def session() -> Iterator[Callable[[Luggage], ray_node._Session]]:
    """A session for a kit, which ends with the test."""
    with ExitStack() as at_end:

        def make(kit: Luggage) -> ray_node._Session:
            return at_end.enter_context(ray_node._Session(kit))

        yield make


@pytest.fixture
def ended(tmp_path) -> Callable[[ray_node._Session], ray_node.Answer]:
    """How a cell ends that the session runs."""
    count = itertools.count(1)

    def run(session: ray_node._Session) -> ray_node.Answer:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        return session.answer(pickle.dumps({}), str(folder), durable=False, code="")

    return run


@pytest.fixture
def returned(ended, tmp_path):
    """What a cell returns that the session runs."""

    def run(session: ray_node._Session):
        answer = ended(session)
        assert answer.outcome["status"] == "done", answer.outcome
        latest = max(tmp_path.iterdir(), key=lambda path: int(path.name))
        return pickle.loads((latest / "result.pkl").read_bytes())

    return run


def alive(pid: int) -> bool:
    return guardian.facts_of(pid) is not None


def test_cells_of_one_run_are_forked_from_one_server_which_ends_with_it(session, returned):
    one = session(kit())
    first = returned(one)
    assert returned(one) == first
    assert alive(first)
    one.close()
    assert not alive(first)


def test_a_server_that_was_killed_is_started_again(session, returned):
    one = session(kit(first_ends_the_server))
    returned(one)
    server = returned(one)
    assert returned(one) == server


def test_where_no_server_is_fit_each_cell_has_an_interpreter(session, returned, monkeypatch):
    monkeypatch.setattr(ray_node, "can_serve", lambda: False)
    one = session(kit())
    assert returned(one) == returned(one) == os.getpid()


def test_where_getting_ready_hangs_each_cell_exceeds_its_timeout(session, ended, monkeypatch):
    monkeypatch.setattr(processes, "LOADING", 1.0)
    one = session(kit(initializer=hang, settings=RunSettings(timeout=1.0)))
    for _ in range(2):
        assert ended(one).outcome["type"] == "TimeoutError"


def test_a_cell_ends_when_the_head_has_not_been_heard_for_too_long(session, ended, monkeypatch, tmp_path):
    for module, name, seconds in ((ray_node, "CUT_OFF", 2.0), (ray_node, "BEAT", 0.1), (ray_connection, "WORRY", 0.1)):
        monkeypatch.setattr(module, name, seconds)
    one = session(kit(slow))

    def silence():
        raise ConnectionError

    monkeypatch.setattr("ray.nodes", silence)
    outcome = ended(one).outcome
    assert outcome["type"] == "NodeDiedError"
    assert "had not heard" in outcome["message"]
    assert not alive(int((tmp_path / "1" / "pid").read_text()))


def test_a_cell_ends_when_the_file_is_removed_that_says_that_it_is_wanted(session, tmp_path):
    """By the run that takes it over, if its own was killed: that is sooner than Ray notices."""
    wanted, folder = tmp_path / "wanted", tmp_path / "1"
    wanted.write_bytes(b"1")
    folder.mkdir()

    def take_over():
        while not (folder / "pid").exists():
            time.sleep(0.01)
        wanted.unlink()

    thread = threading.Thread(target=take_over)
    thread.start()
    answer = session(kit(slow)).answer(pickle.dumps({}), str(folder), durable=False, code="", wanted=str(wanted))
    thread.join()
    assert answer.outcome["message"] == "the cell was asked to stop"
    assert not alive(int((folder / "pid").read_text()))


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_lookout_ends_all_that_had_begun_and_not_ended_and_removes_the_folder(tmp_path, is_killed):
    top = tmp_path / "a folder's"
    top.mkdir()
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(4)]
    lookout = ray_node._Lookout(str(top))
    for one in sleepers:
        lookout.begins(one.pid, f"pyexp-{one.pid:08x}")
        os.write(lookout.pipe, guardian.message(one.pid, f"pyexp-{one.pid:08x}"))  # as a fork does by itself
    for one in (sleepers[1], sleepers[2]):
        lookout.ended(one.pid)
    try:
        if is_killed:  # then the folder is still used: another one takes over
            guard = guard_of(str(top))
            shell = guardian.facts_of(guard).parent
            os.kill(guard, signal.SIGKILL)
            while any(guardian.facts_of(each) for each in (guard, shell)):  # both read the pipe
                time.sleep(0.01)
            lookout.ended(0)
            lookout.ended(0)
            assert top.exists()
        lookout._process.stdin.close()  # as if the Ray worker had been killed
        assert sleepers[0].wait(10) == sleepers[3].wait(10) == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while top.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert sleepers[1].poll() is sleepers[2].poll() is None
    finally:
        for one in sleepers:
            one.kill()
            one.wait()


def guard_of(top: str) -> int:
    """The guardian whose shell removes that folder, as soon as it is there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            with suppress(OSError):
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                if guardian.__file__ in command(pid) and top in command(int(parent)) and top not in command(pid):
                    return pid
        time.sleep(0.01)
    raise AssertionError("there is no guardian")


def command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


@pytest.mark.parametrize("version", ["pyexp 0.0 on Python 3.11", "pyexp 0.1.0 on Python 2.7"])
def test_a_node_with_other_versions_says_what_it_has(version):
    supervisor = ray_node.Supervisor(kit()._replace(version=version))
    supervisor.stop()
    words = supervisor.run(ray_node.Order(b"", "", None, [], "")).outcome["message"]
    assert words.startswith(f"{socket.gethostname()} has pyexp {pyexp.__version__} on Python {sys.version_info.major}.")
    assert version in words
