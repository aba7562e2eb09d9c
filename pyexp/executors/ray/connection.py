"""The connection to Ray: the one that the program has already, or one of its own for a run.

Knows addresses, what Ray does to a process that joins it, and how to tell that its head is gone; nothing of cells.
"""

import importlib
import logging
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
#: Ray's news of dead workers and nodes, which it writes to our stdout: each is the outcome of a cell. Where Ray was
#: imported before, they are written.
NEWS = "A worker died or was killed|Raylet is terminated|The node with node id|cannot be scheduled right now"
_SKIP = "RAY_DEDUP_LOGS_SKIP_REGEX"


def imported() -> Any:
    """The package ray. Raises `ExecutorError` where it is not installed."""
    before = os.environ.get(_SKIP)
    os.environ[_SKIP] = f"{before}|{NEWS}" if before else NEWS  # read when Ray is imported
    try:
        with _calm():
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
    """A connection for one run; `task_env` is the environment that tasks have to ask for, if Ray was there before."""

    def __init__(
        self, address: str | None, runtime_env: Mapping[str, Any] | None, exclude: tuple[str, ...] = ()
    ) -> None:
        self.ray = imported()
        self.ours = not self.ray.is_initialized()
        self.task_env: dict[str, Any] | None = None
        self._environment = {key: value for key, value in os.environ.items() if key.startswith("RAY_")}
        if self.ours:
            self._join(address or os.environ.get("RAY_ADDRESS") or "local", shipped(runtime_env, exclude))
        elif runtime_env:
            refuse_folders(runtime_env)
            self.task_env = dict(runtime_env)
        try:
            self.watch = Watch(self.ray, LOOK, SILENCE)
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

    >>> door("ray://head"), door("10.0.0.1:6379"), door("auto")
    (('head', 10001), ('10.0.0.1', 6379), None)
    """
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    if scheme == "ray":
        return (host.strip("[]"), int(port)) if port.isdigit() and host else (rest.strip("[]"), 10001)
    return (host.strip("[]"), int(port)) if not scheme and host and port.isdigit() else None


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


class Watch(threading.Thread):
    """Asks the head of the cluster for its nodes again and again, so that nobody waits for an answer that never comes.

    `nodes` is the latest list, `looked` when it was asked for, and `gone` says since when a node has been dead.
    """

    def __init__(self, ray: Any, every: float, patience: float) -> None:
        super().__init__(name="pyexp watches ray", daemon=True)
        self._ray, self._every, self._patience = ray, every, patience
        self._worried: float | None = None
        self._told_to_stop = threading.Event()
        self.gone: dict[str, float] = {}
        self._look()
        self.start()

    def run(self) -> None:
        while not self._told_to_stop.wait(self._every):
            with suppress(Exception):  # Ray may raise anything, which means that it did not answer
                self._look()

    def _look(self) -> None:
        began = time.monotonic()
        self.nodes: list[dict[str, Any]] = self._ray.nodes()
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
        if now - self._heard < self._patience:
            self._worried = None
            return False
        self._worried = self._worried or now
        return now - self._worried > WORRY

    def stop(self) -> None:
        """Look no more."""
        self._told_to_stop.set()
