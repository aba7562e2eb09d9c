"""The node's side alone: what a supervisor starts ahead of its cells, and what becomes of it."""

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
from pyexp.executors import guardian, ray_node
from pyexp.executors.base import Halt, Task, Terms, drive
from pyexp.executors.functions import pickled_function
from pyexp.executors.process import import_path
from pyexp.executors.ray_node import Kit, Order

pytestmark = pytest.mark.ray

TERMS = Terms(durable=False)


def who(config):
    import os

    return os.getpid(), os.environ.get("GPUS", "")


def other(config):
    return "another function"


def slow(config):
    import os
    import time

    (config["out"] / "pid").write_text(str(os.getpid()))
    time.sleep(30)  # then it returns, and the test fails


def kit(fn: Callable = who) -> Kit:
    fn.__module__ = "__main__"  # by value
    return Kit(pickled_function(fn), ["main.py"], "", [], import_path(), os.getcwd(), Terms(), 1)


@pytest.fixture
def supervisor(monkeypatch) -> Iterator[ray_node._Supervisor]:
    monkeypatch.setenv("GPUS", "0")
    made = ray_node._Supervisor()
    made.open(ray_node._nothing, Terms())
    yield made
    made.close()


@pytest.fixture
def serve(supervisor, tmp_path):
    """What a cell returns that this supervisor serves, when so many may follow in the same place."""
    count = 0

    def run(kit: Kit, follow: int):
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        folder.mkdir()
        order = Order(pickle.dumps({}), str(folder), None, "", [], follow)
        task = Task(str(count), ray_node._nothing, freeze({}), str(folder))
        with supervisor.serving(kit, order, TERMS):
            (ended,) = drive(supervisor, iter([task]), TERMS, Halt())
        assert ended.outcome["status"] == "done", ended.outcome
        return pickle.loads((folder / "result.pkl").read_bytes())

    return run


def alive(pid: int) -> bool:
    return guardian._facts(pid) is not None


def waiting(supervisor) -> list[int]:
    return [interpreter.pid for interpreter in supervisor._ready]


def test_the_next_cell_in_a_place_gets_the_interpreter_that_was_started_ahead(supervisor, serve):
    one = kit()
    first, _ = serve(one, follow=2)
    (ahead,) = waiting(supervisor)
    second, _ = serve(one, follow=1)
    assert second == ahead
    third, _ = serve(one, follow=0)
    assert len({first, second, third}) == 3
    assert not waiting(supervisor)


def test_none_is_started_where_the_run_wants_none(supervisor, serve):
    serve(replace(kit(), standby=0), follow=5)
    assert not waiting(supervisor)


@pytest.mark.parametrize("change", ["environment", "function"])
def test_one_that_was_started_in_another_world_gets_no_cell(supervisor, serve, monkeypatch, change):
    one = kit()
    serve(one, follow=1)
    (ahead,) = waiting(supervisor)
    if change == "environment":
        monkeypatch.setenv("GPUS", "1")
        pid, gpus = serve(one, follow=0)
        assert gpus == "1"
        assert pid != ahead
    else:
        assert serve(kit(other), follow=0) == "another function"
    assert not alive(ahead)


def test_where_no_cell_comes_it_ends(supervisor, serve, monkeypatch):
    serve(kit(), follow=1)
    (ahead,) = waiting(supervisor)
    supervisor._rest()
    assert alive(ahead)
    monkeypatch.setattr(ray_node, "IDLE", 0.0)
    supervisor._rest()
    assert not alive(ahead)


def test_while_a_cell_runs_nothing_is_put_away(supervisor, serve, monkeypatch):
    monkeypatch.setattr(ray_node, "IDLE", 0.0)
    serve(kit(), follow=1)
    order = Order(pickle.dumps({}), "", None, "", [], 1)
    with supervisor.serving(supervisor._world[0], order, TERMS):
        supervisor._rest()
        assert len(waiting(supervisor)) == 1


def test_a_cell_ends_when_the_head_has_not_been_heard_for_too_long(monkeypatch, tmp_path):
    def silence():
        raise ConnectionError

    monkeypatch.setattr(ray_node.ray_marks, "ask", silence)
    monkeypatch.setattr(ray_node, "CUT_OFF", 2.0)
    monkeypatch.setattr(ray_node, "BEAT", 0.1)
    supervisor = ray_node._Supervisor()
    supervisor.open(ray_node._nothing, Terms())
    order = Order(pickle.dumps({}), str(tmp_path), None, "", [], 0)
    task = Task("a", ray_node._nothing, freeze({}), str(tmp_path))
    halt = Halt()
    try:
        with supervisor.serving(kit(slow), order, TERMS):
            assert not list(drive(supervisor, iter([task]), TERMS, halt, lambda: supervisor.pulse.stops(halt)))
    finally:
        supervisor.close()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_lookout_ends_all_that_had_begun_and_not_ended():
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(4)]
    lookout = ray_node._Lookout()
    for one in sleepers:
        lookout.begins(one.pid, f"pyexp-{one.pid:08x}")
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
