"""The node's side of a cell on Ray: a thin supervisor, which runs the same worker as everywhere in a child of its own.

A Ray task that ran the experiment itself would take its log, its files and the reason of its death with it; the child
can crash as it likes, and the supervisor tells.
"""

import functools
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyexp import __version__
from pyexp.configs import Config, freeze
from pyexp.executors.base import RunSettings, StopRequest, Task
from pyexp.executors.loop import schedule
from pyexp.executors.processes import WorkerSession, can_serve, import_path
from pyexp.executors.ray import files as ray_files
from pyexp.executors.ray import marks as ray_marks
from pyexp.executors.ray.connection import Hearing
from pyexp.results import Outcome
from pyexp.worker import guardian, messages
from pyexp.worker.outcome import failed, failure
from pyexp.worker.script import Survey

#: Seconds between two signs of life of the head, and those without one after which a cell here is ended. A run gives a
#: node up no sooner than 45 s after it was cut off: Ray needs 15 s to see it, and `PATIENCE` comes after.
BEAT = 5.0
CUT_OFF = 30.0
#: A function travels by its code, which other versions of Python read differently.
VERSION = f"pyexp {__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"
#: What the lookout's shell does. A cell may be announced twice: by its supervisor, and by itself.
_LISTEN = """exec 3<&0
(
    top=/ cells=
    while read -r line <&3; do case $line in
        /*) top=$line;;
        *\\ *) case "$cells;" in *";$line;"*) ;; *) cells="$cells;$line";; esac;;
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
    """What all cells of a run have in common: the two messages that workers get ready with, and what holds for them.

    The messages, a `messages.Kit` and what follows it, stay pickles until the version is known to be the same.
    """

    kit: bytes
    rest: bytes
    flags: list[str]
    settings: RunSettings
    version: str = VERSION


class Order(NamedTuple):
    """One cell: its config as a pickle, its folder in the run, and what is in that already.

    Where the file `token` is seen, so is that folder. Under the name `mark` a node says that the cell has begun on it.
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


def supervise(kits: list[Any], order: Order) -> Answer:
    """Run one cell on this node, with the kit that the only reference in the list is to.

    Ray does not look into the list: else it would bring the kit for each cell.
    """
    kit = _supervisor(os.getpid()).kit(kits[0])
    if words := _wrong_version(kit) or _elsewhere(order.mark):
        return Answer(failure("ExecutorError", words), time.time(), 0.0, socket.gethostname(), [])
    # What is tried again is tried from there, and only the copy that is kept has to reach the disk.
    settings = replace(kit.settings, durable=False)
    if order.token is not None and os.path.exists(order.token) and os.access(order.folder, os.W_OK):
        return _run(kit, order, order.folder, kit.settings)
    with tempfile.TemporaryDirectory(prefix="pyexp-", ignore_cleanup_errors=True) as top:
        _supervisor(os.getpid()).minds(top)
        folder = os.path.join(top, os.path.basename(order.folder))
        os.mkdir(folder)
        ray_files.unpack(folder, order.left, _get, durable=False)
        answer = _with_items(_run(kit, order, folder, settings), folder)
    _supervisor(os.getpid()).minds("/")
    return answer


def _wrong_version(kit: Kit) -> str:
    """Why this node cannot run the cells, `""` if it can."""
    if kit.version == VERSION:
        return ""
    return f"this node has {VERSION}, but the run was started by {kit.version}; install the same"


def _elsewhere(mark: str) -> str:
    """Why the cell must not begin here, `""` if it may: from now on it is this node's.

    If the node is lost, nobody else could say that the cell had begun. A cell that the head cannot hear
    of does not begin.
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


def _run(kit: Kit, order: Order, folder: str, settings: RunSettings) -> Answer:
    supervisor = _supervisor(os.getpid())
    task = Task(os.path.basename(folder), _nothing, freeze({}), folder)
    began = time.time()
    with supervisor.serving(kit, order, settings, has_own_folder=_was_sent_a_folder()):
        ended = next(schedule(supervisor, iter([task]), supervisor.check_head), None)
    if ended is None:
        words = f"the node had not heard from the head of the Ray cluster for {CUT_OFF:g} s, and ended the cell"
        return Answer(failure("NodeDiedError", words), began, time.time() - began, socket.gethostname(), None)
    return Answer(ended.outcome, ended.started, ended.seconds, socket.gethostname(), None)


def _was_sent_a_folder() -> bool:
    """Whether Ray has brought a working directory to this node."""
    import ray

    return bool(ray.get_runtime_context().runtime_env.get("working_dir"))


def _at_home(kit: messages.Kit, *, has_own_folder: bool) -> messages.Kit:
    """The kit with the paths of this node: the run's working directory, if that is here and not replaced by one."""
    kit = kit._replace(path=module_path(kit.path))
    if os.path.isdir(kit.folder) and not has_own_folder:
        return kit
    here = os.getcwd()
    return kit._replace(folder=here, script=kit.script and kit.script._replace(folder=here))


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
    """A guardian that is not a child of the Ray worker: Ray kills a worker's children first, and nobody would be left.

    A shell in the background of one that has ended; it keeps what has begun and not ended, and calls a guardian if that
    is anything. It also removes the cell's temporary folder then.
    """

    def minds(self, folder: str) -> None:
        """From now on, this is the folder to be removed; `/` stands for none."""
        self._tell(f"{folder}\n".encode())

    def _start(self) -> Any:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _LISTEN, sys.executable, guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )
        shell.wait()
        return shell


class _Pulse(threading.Thread):
    """Asks the head again and again for a sign of life, so that cells here end if the node is cut off from it.

    The run takes such a node for lost, and may start its cells elsewhere: they must not go on here meanwhile.
    """

    def __init__(self) -> None:
        super().__init__(name="pyexp listens to the head of ray", daemon=True)
        self.hearing = Hearing(CUT_OFF)
        self.start()

    def run(self) -> None:
        while True:
            time.sleep(BEAT)
            try:
                ray_marks.ask()
            except ImportError:  # this version of Ray has no such store
                pass
            except Exception:  # Ray may raise anything, which means that it did not answer
                continue
            self.hearing.heard()


_NO_KIT = messages.Kit([], [], "", None, {}, Survey())


class _Supervisor(WorkerSession):
    """A session for a function and configs that came as pickles, and stay so in this process.

    Its server stays for the next cell of the same run with the same environment. Ray says there what a cell may use
    (`CUDA_VISIBLE_DEVICES`, `OMP_NUM_THREADS`), and libraries read that when they are loaded. In another environment,
    another server is started.
    """

    def __init__(self) -> None:
        super().__init__(RunSettings(), StopRequest(), _NO_KIT, lambda _: self._rest, serves=can_serve())
        self._held: tuple[str, Kit] | None = None
        self._world: Any = None
        self._config = b""
        self.pulse = _Pulse()
        self._environment["PYTHONBREAKPOINT"] = ""  # Ray's own would wait for a debugger

    def make_guardian(self) -> "_Lookout":
        return _Lookout()

    def minds(self, folder: str) -> None:
        """Have this folder removed if this process is killed; `/` stands for none."""
        assert isinstance(self._guardian, _Lookout)
        self._guardian.minds(folder)

    @contextmanager
    def serving(self, kit: Kit, order: Order, settings: RunSettings, *, has_own_folder: bool = False) -> Iterator[None]:
        """While this lasts, the cell is this one."""
        self.settings, self.stop, self._config = settings, StopRequest(), order.config
        try:
            world = (kit, dict(os.environ))
            if world != self._world:
                self._hang_up()
                self._kit = _at_home(pickle.loads(kit.kit), has_own_folder=has_own_folder)
                self._rest, self._flags, self._serves, self._world = kit.rest, kit.flags, can_serve(), world
            yield
        except BaseException:  # Ray's cancel may come between what a server is asked and its answer
            self._hang_up(at_once=True)
            self._world = None
            raise

    def check_head(self) -> None:
        """End the cell if the head has been silent for too long."""
        if self.pulse.hearing.is_over():
            self.stop.count = max(self.stop.count, 1)

    def kit(self, ref: Any) -> Kit:
        """The kit of this reference, mostly the last one. The reference is not kept: it holds memory of Ray's."""
        if self._held is None or self._held[0] != ref.hex():
            self._held = (ref.hex(), _get(ref))
        return self._held[1]

    def _pickled_config(self, task: Task) -> bytes:
        return self._config


@functools.cache
def _supervisor(pid: int) -> _Supervisor:
    """The one of this Ray worker: with its guardian, it serves all cells that come here, and ends with the worker."""
    return _Supervisor()


def module_path(sent: Sequence[str]) -> list[str]:
    """Where a cell finds modules: what Ray brought here, then the run's own folders that are here, then as this node.

    Not among Ray's own, which a Ray worker is started in.
    """
    import ray

    brought = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    home = os.path.dirname(ray.__file__)
    here = [entry for entry in import_path() if not entry.startswith(home)]
    return list(dict.fromkeys([*brought, *(entry for entry in sent if os.path.exists(entry)), *here]))
