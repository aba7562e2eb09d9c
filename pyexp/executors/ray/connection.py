"""The connection to Ray: the one that the program has already, or one of its own for a run.

Knows addresses, what Ray does to a process that joins it, and how to tell that its head is gone; nothing of cells.
"""

import importlib
import logging
import math
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pyexp.errors import ExecutorError

#: Seconds that an address has to accept a connection; Ray's own patience is between 30 and 120.
DOOR = 5.0
#: Seconds between two looks at the cluster, and those without an answer after which its head is given up.
LOOK = 1.0
SILENCE = 15.0
#: Seconds that a silence has to go on after it was noticed.
WORRY = 3.0
#: Seconds that Ray has to let go of a cluster.
FAREWELL = 10.0
#: What is never sent along with a working directory: its history, and what often holds secrets.
KEPT_BACK = (".git", ".env")
#: Ray's news of the dead, each the outcome of a cell, are kept off our stdout, unless Ray was imported before.
NEWS = "A worker died or was killed|Raylet is terminated|The node with node id|cannot be scheduled right now"
_SKIP = "RAY_DEDUP_LOGS_SKIP_REGEX"


def imported() -> Any:
    """The package ray. Raises `ExecutorError` where it is not installed."""
    before = os.environ.get(_SKIP)
    os.environ[_SKIP] = f"{before}|{NEWS}" if before else NEWS  # read when Ray is imported
    try:
        with _undisturbed():
            found = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise ExecutorError(f"ray cannot be imported: {error}") from error
        found = None
    finally:
        del os.environ[_SKIP]
        os.environ.update({_SKIP: before} if before else {})
    if not hasattr(found, "init"):  # without the package, a folder of that name is imported as one
        raise ExecutorError("the executor 'ray' needs the package ray: pip install 'ray[client]'")
    return found


class Connection:
    """A connection for one run. Actors have to be asked for with its `options`."""

    def __init__(self, address: str | None, runtime_env: Mapping[str, Any] | None, results: str) -> None:
        self.ray = imported()
        self.ours = not self.ray.is_initialized()
        self.options = {} if self.ours or not runtime_env else {"runtime_env": remote(runtime_env)}
        self._environment = {key: value for key, value in os.environ.items() if key.startswith("RAY_")}
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        if self.ours:
            knock(where)
        try:
            if self.ours:
                local = {"include_dashboard": False} if where == "local" else {}
                quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                with _undisturbed():
                    self.ray.init(where, runtime_env=shipped(runtime_env, results), **quiet, **local)
            self.watch = Watch(self.ray, LOOK, SILENCE)
        except Exception as error:  # of many kinds: connection, authentication, versions, the runtime_env
            if self.ours:
                self._leave()
            act = "start Ray on this machine" if where == "local" else f"join the Ray cluster {where!r}"
            raise ExecutorError(f"cannot {act}: {brief(error)}") from error

    def close(self) -> None:
        """Let go of Ray if it was joined here; within seconds, also if nobody answers any more."""
        self.watch.told_to_stop.set()
        if self.ours:
            farewell = threading.Thread(target=self._leave, name="pyexp leaves ray", daemon=True)
            farewell.start()
            farewell.join(FAREWELL)

    def _leave(self) -> None:
        with suppress(Exception):
            self.watch.join(FAREWELL / 2)  # it may be asking Ray something, if it is there
        with suppress(Exception):
            self.ray.shutdown()
        for key in [key for key in os.environ if key.startswith("RAY_")]:
            del os.environ[key]
        os.environ.update(self._environment)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ray's warnings of what it will do in future, and without its handler of SIGTERM in place of ours."""
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings(action="ignore"):
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)


def brief(error: BaseException) -> str:
    """The error in one line of bearable length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]


def knock(address: str) -> None:
    """Raise `ExecutorError` if nothing listens at the address. One of a kind that is not known is left to Ray."""
    if (place := door(address)) is None:
        return
    try:
        socket.create_connection(place, timeout=DOOR).close()
    except OSError as error:
        where = f"{place[0]}:{place[1]}, where the Ray cluster {address!r} should be ({error})"
        raise ExecutorError(f"nothing answers at {where}; is it up, and is the address right?") from None


def door(address: str) -> tuple[str, int] | None:
    """The host and port that an address stands for, if that can be known.

    >>> door("ray://head"), door("10.0.0.1:6379"), door("auto")
    (('head', 10001), ('10.0.0.1', 6379), None)
    """
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    if host and port.isdigit() and scheme in ("", "ray"):
        return host.strip("[]"), int(port)
    return (rest.strip("[]"), 10001) if scheme == "ray" else None


def shipped(runtime_env: Mapping[str, Any] | None, results: str = "") -> dict[str, Any] | None:
    """The environment with its folders absolute, and without what must not be sent along with them.

    >>> shipped({"working_dir": "/project", "excludes": ["data/"]}, "/project/out")["excludes"]
    ['data/', '.git', '.env', '/out']
    """
    if runtime_env is None:
        return None
    made = dict(runtime_env)
    if is_folder(made.get("working_dir")):
        top = made["working_dir"] = os.path.abspath(made["working_dir"])
        inside = os.path.relpath(results or os.pardir, top)
        anchored = [] if inside.split(os.sep)[0] in (os.curdir, os.pardir) else [f"/{inside}"]
        made["excludes"] = [*made.get("excludes", ()), *KEPT_BACK, *anchored]
    if "py_modules" in made:
        made["py_modules"] = [os.path.abspath(item) if is_folder(item) else item for item in made["py_modules"]]
    return made


def is_folder(value: Any) -> bool:
    """Whether it is a path on this machine, and not an address that the nodes fetch from."""
    return isinstance(value, (str, os.PathLike)) and "://" not in str(value)


def remote(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """The environment. Raises `ExecutorError` for what Ray can only be given when it is initialised."""
    for key in ("working_dir", "py_modules"):
        values = runtime_env.get(key) or ()
        if any("://" not in str(value) for value in ([values] if isinstance(values, (str, os.PathLike)) else values)):
            what = f"Ray is initialised already, and runtime_env[{key!r}] names a folder of this machine, which Ray"
            raise ExecutorError(f"{what} takes only from ray.init(runtime_env=…): give it there")
    return dict(runtime_env)


class Watch(threading.Thread):
    """Asks the head of the cluster for its nodes again and again, so that nobody waits for an answer that never comes.

    `nodes` is the latest list, `looked` when it was asked for, and `gone` says since when a node has been dead.
    """

    def __init__(self, ray: Any, every: float, patience: float) -> None:
        super().__init__(name="pyexp watches ray", daemon=True)
        self._ray, self._every, self._patience = ray, every, patience
        self._worried = math.inf
        self.told_to_stop = threading.Event()
        self.nodes: list[dict[str, Any]] = []
        self.gone: dict[str, float] = {}
        self.looked = self._heard = -math.inf
        self._look()
        self.start()

    def run(self) -> None:
        while not self.told_to_stop.wait(self._every):
            with suppress(Exception):  # Ray may raise anything, which means that it did not answer
                self._look()

    def _look(self) -> None:
        began = time.monotonic()
        self.nodes = self._ray.nodes()
        self._heard = time.monotonic()
        dead = [node["NodeID"] for node in self.nodes if not node["Alive"]]
        self.gone = {node: self.gone.get(node, self._heard) for node in dead}
        self.looked = began

    def alive(self) -> list[dict[str, Any]]:
        """The nodes that are there."""
        return [node for node in self.nodes if node["Alive"]]

    def is_silent(self) -> bool:
        """Whether the head has not answered for too long: twice, as this process may have been stopped meanwhile."""
        now = time.monotonic()
        self._worried = min(self._worried, now) if now - self._heard > self._patience else math.inf
        return now - self._worried > WORRY
