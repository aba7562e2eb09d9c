"""The node's side of a cell on Ray: a thin supervisor, which runs the same worker as everywhere in a child of its own.

A Ray task that ran the experiment itself would take its log, its files and the reason of its death with it; the child
can crash as it likes, and the supervisor tells.
"""

import functools
import marshal
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyexp import __version__
from pyexp.configs import freeze
from pyexp.dotted import Config
from pyexp.executors import guardian, ray_files, ray_marks, worker
from pyexp.executors.base import Halt, Task, Terms, drive
from pyexp.executors.process import SubprocessExecutor, import_path, unnamed_file
from pyexp.executors.ray_connection import Hearing
from pyexp.outcome import Outcome, failed, failure

#: Seconds between two signs of life of the head, and those without one after which a cell here is ended. A run gives a
#: node up no sooner than 45 s after it was cut off: Ray needs 15 s to see it, and `PATIENCE` comes after.
BEAT = 5.0
CUT_OFF = 30.0
#: A function travels by its code, which other versions of Python read differently.
VERSION = f"pyexp {__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"
#: Seconds that an interpreter started ahead waits for a cell, if none comes.
IDLE = 10.0
_LISTEN = """exec 3<&0
(
    top=/ cells=
    while read -r line <&3; do case $line in
        /*) top=$line;;
        *\\ *) cells="$cells;$line";;
        *) case $cells in *";$line "*)
            after=${cells#*";$line "} cells=${cells%%";$line "*}
            case $after in *\\;*) cells="$cells;${after#*;}";; esac;;
        esac;;
    esac; done
    test "$cells" && echo "$cells" | tr ";" "\\n" | "$0" -I -S "$1" 1
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
    standby: int
    version: str = VERSION


class Order(NamedTuple):
    """One cell: its config as a pickle, its folder in the run, and what is in that already.

    Where the file `token` is seen, so is that folder. Under the name `mark` a node says that the cell has begun on it.
    When it has ended, the same place may get so many more (`follow`).
    """

    config: bytes
    folder: str
    token: str | None
    mark: str
    left: list[ray_files.Item]
    follow: int


class Answer(NamedTuple):
    """How a cell ended, when it began and how long it took, where; and its files, if the run's folder is not there."""

    outcome: Outcome
    started: float
    seconds: float
    host: str
    items: list[ray_files.Item] | None


def supervise(kits: list[Any], order: Order) -> Answer:
    """Run one cell on this node, with the kit that the only reference in the list is to.

    Ray does not look into the list: else it would bring the kit for each cell.
    """
    kit = _supervisor(os.getpid()).kit(kits[0])
    if words := _wrong_version(kit) or _elsewhere(order.mark):
        return Answer(failure("ExecutorError", words), time.time(), 0.0, socket.gethostname(), [])
    # What is tried again is tried from there, and only the copy that is kept has to reach the disk.
    terms = Terms(timeout=kit.terms.timeout, durable=False)
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


def _wrong_version(kit: Kit) -> str:
    """Why this node cannot run the cells, `""` if it can."""
    if kit.version == VERSION:
        return ""
    return f"this node has {VERSION}, but the run was started by {kit.version}; install the same"


def _elsewhere(mark: str) -> str:
    """Why the cell must not begin here, `""` if it may: from now on it is this node's.

    If the node is lost, nobody else could say that the cell had begun; what the head cannot be told, does not begin.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    try:
        begun = ray_marks.write(mark, node)
    except ImportError:  # this version of Ray has no such store
        return ""
    except Exception as error:
        return f"the node cannot tell the head of the Ray cluster that it has the cell: {type(error).__name__}: {error}"
    _supervisor(os.getpid()).pulse.hearing.heard()
    return "" if begun == node else "the run has handed the cell to another node"


def _run(kit: Kit, order: Order, folder: str, terms: Terms) -> Answer:
    supervisor = _supervisor(os.getpid())
    task = Task(os.path.basename(folder), _nothing, freeze({}), folder)
    began, halt = time.time(), Halt()
    with supervisor.serving(kit, order, terms), chdir(kit.cwd) if _is_cwd_ours(kit.cwd) else nullcontext():
        ended = next(drive(supervisor, iter([task]), terms, halt, lambda: supervisor.pulse.stops(halt)), None)
    if ended is None:
        words = f"the node had not heard from the head of the Ray cluster for {CUT_OFF:g} s, and ended the cell"
        return Answer(failure("NodeDiedError", words), began, time.time() - began, socket.gethostname(), None)
    return Answer(ended.outcome, ended.started, ended.seconds, socket.gethostname(), None)


def _is_cwd_ours(cwd: str) -> bool:
    """Whether the run's working directory is here, and Ray was not given one."""
    import ray

    return os.path.isdir(cwd) and not ray.get_runtime_context().runtime_env.get("working_dir")


def _nothing(_config: Config) -> None:
    """In the place of a function, which only the child unpickles."""


def _get(ref: Any) -> Any:
    import ray

    return ray.get(ref)


def _with_items(answer: Answer, folder: str) -> Answer:
    import ray

    try:
        return answer._replace(items=ray_files.pack(folder, ray.put))
    except Exception as error:  # the node's disk, or Ray's memory for objects, is full
        return answer._replace(outcome=failed(error), items=[])


class _Lookout(guardian.Guardian):
    """A guardian that is no child of the Ray worker: Ray kills a worker's children first, and nobody would be left.

    A shell in the background of one that has ended; it keeps what has begun and not ended, and calls a guardian if that
    is anything. It also removes the cell's temporary folder then.
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


class _Pulse(threading.Thread):
    """Asks the head again and again for a sign of life, so that cells here end if the node is cut off from it.

    The run takes such a node for lost, and may start its cells elsewhere: they must not go on here meanwhile.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(name="pyexp listens to the head of ray", daemon=True)
        self.hearing = Hearing(CUT_OFF)
        self._then = then
        self.start()

    def run(self) -> None:
        while True:
            time.sleep(BEAT)
            with suppress(Exception):  # whatever it is, the head is listened to
                self._then()
            try:
                ray_marks.ask()
            except ImportError:  # this version of Ray has no such store
                pass
            except Exception:  # whatever Ray raises, it is no answer
                continue
            self.hearing.heard()

    def stops(self, halt: Halt) -> None:
        """End what is driven with this `halt`, if the head has been silent for too long."""
        if self.hearing.is_over():
            halt.count = max(halt.count, 1)


class _Supervisor(SubprocessExecutor):
    """The subprocess executor for a function and a config that came as pickles, and stay so in this process."""

    def __init__(self) -> None:
        super().__init__(standby=0)
        self._kit: tuple[str, Kit] | None = None
        self._world: Any = None
        self._at_work = threading.Lock()
        self._idle_since = time.monotonic()

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        super().open(fn, terms)
        self._guardian.dismiss()
        self._guardian = self.lookout = _Lookout()
        self.pulse = _Pulse(self._rest)
        self._environment["PYTHONBREAKPOINT"] = ""  # Ray's own would wait for a debugger

    @contextmanager
    def serving(self, kit: Kit, order: Order, terms: Terms) -> Iterator[None]:
        """While this lasts, the cell is this one."""
        with self._at_work:
            self._config, self._left = order.config, 1 + order.follow
            self._enter(kit, terms)
            try:
                yield
            finally:
                self._idle_since = time.monotonic()

    def kit(self, ref: Any) -> Kit:
        """The kit of this reference, mostly the last one. The reference is not kept: it holds memory of Ray's."""
        if self._kit is None or self._kit[0] != ref.hex():
            self._kit = (ref.hex(), _get(ref))
        return self._kit[1]

    def _rest(self) -> None:
        """End the interpreters that were started ahead, if no cell has come for a while."""
        if self._at_work.acquire(blocking=False):
            try:
                if time.monotonic() - self._idle_since > IDLE:
                    self._send_away()
            finally:
                self._at_work.release()

    def _enter(self, kit: Kit, terms: Terms) -> None:
        """Have the world that cells expect. Interpreters that were started ahead stay if theirs is the same."""
        world = (kit, terms, dict(os.environ))  # where Ray says which GPUs a cell has
        if world == self._world:
            return
        self._send_away()
        self._world, self._terms, self._flags, self.standby = world, terms, kit.flags, kit.standby
        common = {"argv": kit.argv, "path": module_path(kit.path), "main": kit.main, "durable": terms.durable}
        os.close(self._shared)
        self._shared = unnamed_file(worker.packed(marshal.dumps(common), kit.fn))

    def _cell(self, task: Task) -> bytes:
        return worker.packed(os.fsencode(task.result_path), self._config)


@functools.cache
def _supervisor(pid: int) -> _Supervisor:
    """The one of this Ray worker: with its guardian, it serves all cells that come here, and ends with the worker."""
    made = _Supervisor()
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
