"""The node's side of a cell on Ray: a thin supervisor, which runs the same worker as everywhere in a child of its own.

A Ray task that ran the experiment itself would take its log, its files and the reason of its death with it; the child
can crash as it likes, and the supervisor tells.
"""

import functools
import marshal
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyexp import __version__
from pyexp.configs import freeze
from pyexp.dotted import Config
from pyexp.executors import guardian, ray_cell, ray_files, worker
from pyexp.executors.base import Halt, Task, Terms, drive
from pyexp.executors.process import _CHILD, SubprocessExecutor, import_path, worker_path
from pyexp.outcome import Outcome, failed, failure

#: Where Ray keeps, for as long as a cell runs, on which node it does.
NAMESPACE = "pyexp"
_LISTEN = """exec 3<&0
(
    top=/
    while read -r line <&3; do case $line in /*) top=$line;; *) last=$line;; esac; done
    case $last in *\\ *) echo "$last" | "$0" -I -S "$1" 1;; esac
    test "$top" = / || rm -rf -- "$top"
) &
"""


@dataclass(frozen=True, slots=True)
class Kit:
    """What all cells of a run have in common: the function as a pickle, and the world it expects."""

    fn: bytes
    argv: list[str]
    main: str
    flags: list[str]
    path: list[str]
    cwd: str
    terms: Terms
    version: str = __version__


class Order(NamedTuple):
    """One cell: its config as a pickle, its folder in the run, and what is in that already.

    Where the file `token` is seen, so is that folder. The cell says under the name `mark` on which node it runs.
    """

    config: bytes
    folder: str
    token: str | None
    mark: str
    left: list[ray_files.Item]


class Answer(NamedTuple):
    """How a cell ended, when it began and how long it took, where; and its files, if the run's folder is not there."""

    outcome: Outcome
    started: float
    seconds: float
    host: str
    items: list[ray_files.Item] | None


def supervise(kit: Kit, order: Order) -> Answer:
    """Run one cell on this node."""
    if kit.version != __version__:
        words = f"this node has pyexp {__version__}, but the run was started by {kit.version}; install the same"
        return Answer(failure("ExecutorError", words), time.time(), 0.0, socket.gethostname(), [])
    # What is tried again is tried from there, and only the copy that is kept has to reach the disk.
    terms = Terms(timeout=kit.terms.timeout, durable=False)
    with _marked(order.mark):
        if order.token is not None and os.path.exists(order.token) and os.access(order.folder, os.W_OK):
            return _run(kit, order, order.folder, replace(terms, durable=kit.terms.durable))
        with tempfile.TemporaryDirectory(prefix="pyexp-", ignore_cleanup_errors=True) as top:
            _supervisor(os.getpid()).lookout.minds(top)
            folder = os.path.join(top, os.path.basename(order.folder))
            os.mkdir(folder)
            ray_files.unpack(folder, order.left, _get, durable=False)
            answer = _with_items(_run(kit, order, folder, terms), folder)
        _supervisor(os.getpid()).lookout.minds("/")
        return answer


def _run(kit: Kit, order: Order, folder: str, terms: Terms) -> Answer:
    supervisor = _supervisor(os.getpid())
    supervisor.take(kit, order, terms)
    task = Task(os.path.basename(folder), _nothing, freeze({}), folder)
    with chdir(kit.cwd) if _is_cwd_ours(kit.cwd) else nullcontext():
        (ended,) = drive(supervisor, iter([task]), terms, Halt())
    return Answer(ended.outcome, ended.started, ended.seconds, socket.gethostname(), None)


def _is_cwd_ours(cwd: str) -> bool:
    """Whether the run's working directory is here, and Ray was not given one."""
    import ray

    return os.path.isdir(cwd) and not ray.get_runtime_context().runtime_env.get("working_dir")


def _nothing(_config: Config) -> None:
    """In the place of a function, which only the child unpickles."""


def _get(ref: Any) -> bytes:
    import ray

    part: bytes = ray.get(ref)
    return part


def _with_items(answer: Answer, folder: str) -> Answer:
    import ray

    try:
        return answer._replace(items=ray_files.pack(folder, ray.put))
    except Exception as error:  # the node's disk, or Ray's memory for objects, is full
        return answer._replace(outcome=failed(error), items=[])


@contextmanager
def _marked(mark: str) -> Iterator[None]:
    """Tell Ray, under that name, that this node has the cell: if the node is lost, nobody else could say so."""
    with suppress(Exception):  # the cell runs without it
        import ray
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(mark, ray.get_runtime_context().get_node_id(), namespace=NAMESPACE)
    try:
        yield
    finally:
        with suppress(Exception):
            from ray.experimental.internal_kv import _internal_kv_del

            _internal_kv_del(mark, namespace=NAMESPACE)


class _Lookout(guardian.Guardian):
    """A guardian that is no child of the Ray worker: Ray kills a worker's children first, and nobody would be left.

    A shell in the background of one that has ended; it keeps the last it has heard, and calls a guardian if that is the
    beginning of a cell. It also removes the cell's temporary folder then.
    """

    def minds(self, folder: str) -> None:
        """From now on, this is the folder to be removed; `/` stands for none."""
        self._tell(f"{folder}\n".encode())

    def _start(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _LISTEN, sys.executable, guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self.pipe = self._process.stdin.fileno()
        self._process.wait()


class _Supervisor(SubprocessExecutor):
    """The subprocess executor for a function and a config that came as pickles, and stay so in this process."""

    def __init__(self, kit: Kit, order: Order) -> None:
        self._kit = kit
        self._order = order

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        super().open(fn, terms)
        self._guardian.dismiss()
        self._guardian = self.lookout = _Lookout()
        self._environment["PYTHONBREAKPOINT"] = ""  # Ray's own would wait for a debugger

    def take(self, kit: Kit, order: Order, terms: Terms) -> None:
        """The next cell is this one."""
        self._kit, self._order, self._terms = kit, order, terms
        self._command = [sys.executable, *kit.flags, "-P", "-c", _CHILD, *worker_path()]

    def _payload(self, task: Task) -> bytes:
        terms = {
            "argv": self._kit.argv,
            "path": module_path(self._kit.path),
            "main": self._kit.main,
            "result_path": task.result_path,
            "durable": self._terms.durable,
        }
        fn = pickle.dumps(functools.partial(ray_cell.call, self._kit.fn, task.folder))
        return worker.packed(marshal.dumps(terms), fn, self._order.config)


@functools.cache
def _supervisor(pid: int) -> _Supervisor:
    """The one of this Ray worker: with its guardian, it serves all cells that come here, and ends with the worker."""
    made = _Supervisor(Kit(b"", [], "", [], [], "", Terms()), Order(b"", "", None, "", []))
    made.open(_nothing, Terms())
    return made


def module_path(sent: Sequence[str]) -> list[str]:
    """Where a cell finds modules: what Ray brought here, then the run's own folders that are here, then as this node.

    Not among Ray's own, which a Ray worker is started in.
    """
    import ray

    brought = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    home = os.path.dirname(ray.__file__)
    here = [entry for entry in import_path() if not entry.startswith(home)]
    return list(dict.fromkeys([*brought, *(entry for entry in sent if os.path.exists(entry)), *here]))
