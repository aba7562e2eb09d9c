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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pyexp.errors import ExecutorError
from pyexp.executors.ray import marks as ray_marks

#: Seconds that an address has to accept a connection; Ray's own patience is between 30 and 120.
DOOR = 5.0
#: Seconds between two looks at the cluster, and those without an answer after which its head is given up.
LOOK = 1.0
SILENCE = 15.0
#: Seconds in which a cell may still be handed to a node that is known to be lost.
LATE = 5.0
#: Seconds that Ray has to let go of a cluster.
FAREWELL = 10.0
#: What is never sent along with a working directory: its history, and what often holds secrets.
KEPT_BACK = (".git", ".env")


def imported() -> Any:
    """The package ray. Raises `ExecutorError` where it is not installed."""
    try:
        with _calm():
            found = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise ExecutorError(f"ray cannot be imported: {error}") from error
        found = None
    if not hasattr(found, "init"):  # without the package, a folder of that name is imported as one
        raise ExecutorError("the executor 'ray' needs the package ray: pip install 'ray[client]'")
    return found


class Connection:
    """A connection for one run; `task_env` is the environment that tasks have to ask for, if Ray was there before."""

    def __init__(
        self, address: str | None, runtime_env: Mapping[str, Any] | None, exclude: tuple[str, ...] = ()
    ) -> None:
        self.ray = imported()
        self.ours = not self.ray.is_initialized()
        self.task_env: dict[str, Any] | None = None
        self._environment = {key: value for key, value in os.environ.items() if key.startswith("RAY_")}
        self._loud: Callable[..., None] | None = None
        if self.ours:
            self._join(address or os.environ.get("RAY_ADDRESS") or "local", shipped(runtime_env, exclude))
        elif runtime_env:
            refuse_folders(runtime_env)
            self.task_env = dict(runtime_env)
        try:
            self.watch = Watch(self.ray)
        except Exception as error:
            if self.ours:
                self._leave()
            raise ExecutorError(f"the Ray cluster does not say what nodes it has: {brief(error)}") from error

    def _join(self, address: str, runtime_env: dict[str, Any] | None) -> None:
        knock(address)
        local = {"include_dashboard": False} if address == "local" else {}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            with _calm(), _same_signals():
                self.ray.init(
                    address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR, **local
                )
        except Exception as error:  # of many kinds: connection, authentication, versions, the runtime_env
            self._leave()
            where = "start Ray on this machine" if address == "local" else f"join the Ray cluster {address!r}"
            raise ExecutorError(f"cannot {where}: {brief(error)}") from error
        self._hush()

    def _hush(self) -> None:
        """Keep Ray from writing the news of dead workers to our stdout; each is the outcome of a cell.

        There is no option for that: see docs/decisions/030-ray.md.
        """
        with suppress(ImportError, AttributeError):
            module: Any = importlib.import_module("ray._private.worker")
            self._loud = module.print_to_stdstream
            module.print_to_stdstream = lambda *_, **__: None

    def close(self) -> None:
        """Let go of Ray if it was joined here; within seconds, also if nobody answers any more."""
        self.watch.stop()
        if self.ours:
            farewell = threading.Thread(target=self._part, name="pyexp leaves ray", daemon=True)
            farewell.start()
            farewell.join(FAREWELL)

    def _part(self) -> None:
        self.watch.join(FAREWELL / 2)  # it may be asking Ray something
        self._leave()

    def _leave(self) -> None:
        with suppress(Exception):
            self.ray.shutdown()
        for key in [key for key in os.environ if key.startswith("RAY_")]:
            del os.environ[key]
        os.environ.update(self._environment)
        if self._loud is not None:
            module: Any = importlib.import_module("ray._private.worker")
            module.print_to_stdstream = self._loud


@contextmanager
def _calm() -> Iterator[None]:
    """Without Ray's warnings about what it will do in future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _same_signals() -> Iterator[None]:
    """Leave the program its own handlers: Ray puts one for SIGTERM in their place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def brief(error: BaseException) -> str:
    """The error in one line of bearable length."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:600]


def knock(address: str) -> None:
    """Raise `ExecutorError` if nothing listens at the address. One of a kind that is not known is left to Ray."""
    found = door(address)
    if found is None:
        return
    host, port = found
    try:
        socket.create_connection((host, port), timeout=DOOR).close()
    except OSError as error:
        raise ExecutorError(
            f"nothing answers at {host}:{port}, where the Ray cluster {address!r} should be ({error}); "
            "is it up, and is the address right?"
        ) from None


def door(address: str) -> tuple[str, int] | None:
    """The host and port that an address stands for, if that can be known.

    >>> door("ray://head"), door("10.0.0.1:6379"), door("local")
    (('head', 10001), ('10.0.0.1', 6379), None)
    """
    if address == "auto":
        return _latest_cluster()
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    if scheme == "ray":
        return (host.strip("[]"), int(port)) if port.isdigit() and host else (rest.strip("[]"), 10001)
    return (host.strip("[]"), int(port)) if not scheme and host and port.isdigit() else None


def _latest_cluster() -> tuple[str, int] | None:
    """Where the cluster is that Ray calls "auto"; it may have ended without a trace of that."""
    with suppress(Exception):  # not a public name; without it, Ray takes its time to say the same
        services = importlib.import_module("ray._private.services")
        found = services.canonicalize_bootstrap_address("auto")
        return None if found is None else door(found)
    return None


def shipped(runtime_env: Mapping[str, Any] | None, exclude: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """The environment with its folders absolute, and without what must not be sent along with them.

    >>> shipped({"working_dir": "/project", "excludes": ["data/"]})["excludes"]
    ['data/', '.git', '.env']
    """
    if runtime_env is None:
        return None
    made = dict(runtime_env)
    if is_folder(made.get("working_dir")):
        top = made["working_dir"] = os.path.abspath(made["working_dir"])
        inside = [os.path.relpath(path, top) for path in exclude]
        anchored = [f"/{path}" for path in inside if path.split(os.sep)[0] not in (os.curdir, os.pardir)]
        made["excludes"] = [*made.get("excludes", ()), *KEPT_BACK, *anchored]
    if "py_modules" in made:
        made["py_modules"] = [os.path.abspath(item) if is_folder(item) else item for item in made["py_modules"]]
    return made


def is_folder(value: Any) -> bool:
    """Whether it is a path on this machine, and not an address that the nodes fetch from."""
    return isinstance(value, (str, os.PathLike)) and "://" not in str(value)


def refuse_folders(runtime_env: Mapping[str, Any]) -> None:
    """Raise `ExecutorError` for what Ray can only be given when it is initialised."""
    local = [key for key in ("working_dir", "py_modules") if key in runtime_env]
    values = [runtime_env.get("working_dir"), *runtime_env.get("py_modules", ())]
    if any(value is not None and "://" not in str(value) for value in values):
        raise ExecutorError(
            f"Ray is initialised already, and runtime_env[{local[0]!r}] names a folder of this machine, which Ray "
            "takes only from ray.init(runtime_env=…): give it there, or leave ray.init to pyexp"
        )


class Hearing:
    """When the head of the cluster was heard last, and whether that is longer ago than so many seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._worried: float | None = None
        self._last = time.monotonic()

    def heard(self) -> None:
        """It has answered just now."""
        self._last = time.monotonic()

    def is_over(self) -> bool:
        """Whether it has been silent for too long: twice, as this process may itself have been stopped meanwhile."""
        now = time.monotonic()
        if now - self._last < self._patience:
            self._worried = None
            return False
        self._worried = self._worried or now
        return now - self._worried > 3 * LOOK


class Watch(threading.Thread):
    """Looks at the cluster again and again, so that a run never waits for an answer that does not come.

    `nodes` is the latest list, and `gone` says since when a node has been dead; `where` says, once there are dead ones,
    where a cell has begun, by its mark, or that it never will (`NOWHERE`).
    """

    def __init__(self, ray: Any) -> None:
        super().__init__(name="pyexp watches ray", daemon=True)
        self.nodes: list[dict[str, Any]] = ray.nodes()
        self.gone = dict.fromkeys(dead(self.nodes), -math.inf)  # no cell waits for these
        self.where: dict[str, str] = {}
        self.marks = ""
        self._doubted: deque[str] = deque()
        self._over: deque[str] = deque()
        self._ray = ray
        self._hearing = Hearing(SILENCE)
        self._told_to_stop = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._told_to_stop.wait(LOOK):
            with suppress(Exception):  # Ray may raise anything, which means that it did not answer
                self._look()
                self._hearing.heard()
            with suppress(Exception):  # not a public part of Ray: see docs/decisions/030-ray.md
                self._settle()
        with suppress(Exception):
            self._forget()

    def _look(self) -> None:
        self.nodes = self._ray.nodes()
        now = time.monotonic()
        self.gone = {node: self.gone.get(node, now) for node in dead(self.nodes)}

    def _settle(self) -> None:
        """Strike out the cells that are doubted, ask where the others began, and forget those that are over."""
        while self._doubted:
            ray_marks.write(self._doubted[0], ray_marks.NOWHERE)
            self._doubted.popleft()  # not before: what raised is tried again
        if self.gone and self.marks:
            self.where = ray_marks.read(self.marks, self.where)
        self._forget()

    def _forget(self) -> None:
        while self._over:
            ray_marks.remove(self._over[0])
            self._over.popleft()

    def doubt(self, mark: str) -> None:
        """Make sure that a cell begins nowhere, unless it has begun; `where` will tell which."""
        self._doubted.append(mark)

    def over(self, mark: str) -> None:
        """Nobody will ask any more where the cell is."""
        self._over.append(mark)

    def lost_since(self, moment: float) -> float:
        """When the first of the nodes was lost that a cell handed over at this moment may wait for; inf if none was."""
        return min((since for since in self.gone.values() if since + LATE > moment), default=math.inf)

    def alive(self) -> list[dict[str, Any]]:
        """The nodes that are there."""
        return [node for node in self.nodes if node["Alive"]]

    def is_silent(self) -> bool:
        """Whether the head has not answered for too long."""
        return self._hearing.is_over()

    def stop(self) -> None:
        """Look no more."""
        self._told_to_stop.set()


def dead(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of those nodes that Ray takes for dead.

    >>> dead([{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": False}])
    ['b']
    """
    return [node["NodeID"] for node in nodes if not node["Alive"]]
