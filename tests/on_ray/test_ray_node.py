"""The node's side alone: what a supervisor keeps for the next cell, and what becomes of it."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="the extra [ray] is not installed")

from pyexp.configs import freeze
from pyexp.executors import processes
from pyexp.executors.base import RunSettings, Task
from pyexp.executors.loop import Ended, schedule
from pyexp.executors.processes import import_path
from pyexp.executors.ray import node as ray_node
from pyexp.executors.ray.node import Kit, Order
from pyexp.worker import guardian
from pyexp.worker.messages import Lack
from pyexp.worker.naming import Shipment

pytestmark = pytest.mark.ray

SETTINGS = RunSettings(durable=False)


def who(config):
    import os

    return os.getppid(), os.environ.get("GPUS", "")


def other(config):
    return "another function"


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


def kit(fn: Callable = who, initializer: Callable | None = None) -> Kit:
    fn.__module__ = hang.__module__ = "__main__"  # by value
    shipment = Shipment(fn, initializer, import_path())
    return Kit(pickle.dumps(shipment.kit), shipment.rest(Lack()), [], RunSettings())


@pytest.fixture
def supervisor(monkeypatch) -> Iterator[ray_node._Supervisor]:
    monkeypatch.setenv("GPUS", "0")
    made = ray_node._Supervisor()
    yield made
    made.close()


@pytest.fixture
def serve(supervisor, tmp_path):
    """How a cell ends that this supervisor serves."""
    count = 0

    def run(kit: Kit, settings: RunSettings = SETTINGS) -> Ended:
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        folder.mkdir()
        order = Order(pickle.dumps({}), str(folder), None, "", [])
        task = Task(str(count), ray_node._nothing, freeze({}), str(folder))
        with supervisor.serving(kit, order, settings):
            (ended,) = schedule(supervisor, iter([task]))
        return ended

    return run


@pytest.fixture
def returned(serve):
    """What a cell returns that this supervisor serves."""

    def run(kit: Kit):
        ended = serve(kit)
        assert ended.outcome["status"] == "done", ended.outcome
        with open(ended.task.result_path, "rb") as file:
            return pickle.load(file)

    return run


def alive(pid: int) -> bool:
    return guardian.facts_of(pid) is not None


def test_cells_of_one_run_are_forked_from_one_server(returned):
    one = kit()
    first, _ = returned(one)
    assert returned(one) == (first, "0")
    assert alive(first)


def test_another_environment_or_run_gets_another_server(returned, monkeypatch):
    one = kit()
    first, gpus = returned(one)
    assert gpus == "0"
    monkeypatch.setenv("GPUS", "1")
    second, gpus = returned(one)
    assert gpus == "1"
    assert second != first
    assert not alive(first)
    assert returned(kit(other)) == "another function"
    assert not alive(second)


def test_a_server_that_was_killed_is_started_again(returned):
    one = kit(first_ends_the_server)
    returned(one)
    server = returned(one)
    assert returned(one) == server


def test_where_no_server_is_fit_each_cell_has_an_interpreter(returned, monkeypatch):
    monkeypatch.setattr(ray_node, "can_serve", lambda: False)
    one = kit()
    assert returned(one)[0] == returned(one)[0] == os.getpid()


def test_where_getting_ready_hangs_each_cell_exceeds_its_timeout(serve, monkeypatch):
    monkeypatch.setattr(processes, "LOADING", 1.0)
    one = kit(initializer=hang)
    for _ in range(2):
        assert serve(one, RunSettings(timeout=1.0, durable=False)).outcome["type"] == "TimeoutError"


def test_a_cell_that_is_cancelled_takes_the_server_with_it(supervisor, serve, returned):
    one = kit()
    first, _ = returned(one)
    order = Order(pickle.dumps({}), "", None, "", [])
    with pytest.raises(KeyboardInterrupt), supervisor.serving(one, order, SETTINGS):
        raise KeyboardInterrupt
    assert not alive(first)
    assert returned(one)[0] != first


def test_a_cell_ends_when_the_head_has_not_been_heard_for_too_long(monkeypatch, tmp_path):

    def silence():
        raise ConnectionError

    monkeypatch.setattr(ray_node.ray_marks, "ask", silence)
    monkeypatch.setattr(ray_node, "CUT_OFF", 2.0)
    monkeypatch.setattr(ray_node, "BEAT", 0.1)
    supervisor = ray_node._Supervisor()
    order = Order(pickle.dumps({}), str(tmp_path), None, "", [])
    task = Task("a", ray_node._nothing, freeze({}), str(tmp_path))
    try:
        with supervisor.serving(kit(slow), order, SETTINGS):
            assert not list(schedule(supervisor, iter([task]), supervisor.check_head))
    finally:
        supervisor.close()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_lookout_ends_all_that_had_begun_and_not_ended():
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(4)]
    lookout = ray_node._Lookout()
    for one in sleepers:
        lookout.begins(one.pid, f"pyexp-{one.pid:08x}")
        os.write(lookout.pipe, guardian.message(one.pid, f"pyexp-{one.pid:08x}"))  # as a fork does by itself
    for one in (sleepers[1], sleepers[2]):
        lookout.ended(one.pid)
    lookout._process.stdin.close()  # as if the Ray worker had been killed
    try:
        assert sleepers[0].wait(10) == sleepers[3].wait(10) == -signal.SIGKILL
        time.sleep(0.2)
        assert sleepers[1].poll() is sleepers[2].poll() is None
    finally:
        for one in sleepers:
            one.kill()
            one.wait()


@pytest.mark.parametrize("version", ["pyexp 0.0 on Python 3.11", "pyexp 0.1.0 on Python 2.7"])
def test_a_node_with_other_versions_says_what_it_has(version):
    words = ray_node._wrong_version(replace(kit(), version=version))
    assert words.startswith(f"this node has pyexp {ray_node.__version__} on Python {sys.version_info.major}.")
    assert version in words
    assert ray_node._wrong_version(kit()) == ""
