"""The node's side of cells on Ray: a thin supervisor, which runs the same worker as everywhere in a child of its own.

An actor that ran the experiment itself would take its log, files and the reason of its death with it.
"""

import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any, NamedTuple

from pyexp.executors.attempts import Luggage, PackedSession, stops
from pyexp.executors.processes import can_serve, import_path
from pyexp.executors.ray import files as ray_files
from pyexp.executors.ray.connection import Watch
from pyexp.results import Outcome
from pyexp.store import claims, unix
from pyexp.worker import guardian, messages
from pyexp.worker.outcome import failed, failure

#: Seconds between two signs of life of the head, and those without one after which a cell here is ended. A run gives a
#: node up no sooner than 45 s after it was cut off: Ray needs 15 s to see it, and `PATIENCE` comes after.
BEAT = 5.0
CUT_OFF = 30.0
#: A shell that ends at once starts another one, which is the guardian's parent, and removes a folder after it.
_APART = 'exec 3<&0 >/dev/null 2>&1; /bin/sh -c "$0" "$@" <&3 &'
_GUARD = '"$@" $$ && rm -rf -- "$0"'


class Order(NamedTuple):
    """One cell: its config as a pickle, its folder in the run, a file that is seen where that is, what it holds.

    Where the file is seen, the cell holds a lock on it, and ends when it is removed. `code` is the short identity of
    its code.
    """

    config: bytes
    folder: str
    wanted: str
    left: list[ray_files.Item]
    code: str


class Answer(NamedTuple):
    """How a cell ended, how long it took and where; and its files, if the run's folder is not there."""

    outcome: Outcome
    seconds: float = 0.0
    host: str = ""
    items: list[ray_files.Item] | None = None


class Supervisor:
    """Runs cells on a node, one after the other: an actor of Ray's. They share a server.

    Ray says in its environment what they all may use: libraries read `CUDA_VISIBLE_DEVICES` when they are loaded.
    """

    def __init__(self, luggage: Luggage) -> None:
        import ray

        self._ray = ray
        self._luggage = luggage
        if not luggage.mismatch:
            sent = ray.get_runtime_context().runtime_env.get("working_dir")
            self._session = _Session(luggage, has_own_folder=bool(sent))

    def node(self) -> str:
        """The id of the node that this is on."""
        return str(self._ray.get_runtime_context().get_node_id())

    def run(self, order: Order) -> Answer:
        """Run a cell in the run's folder. If the node cannot see that, use one of its own and send its files home."""
        if words := self._luggage.mismatch:
            return Answer(failure("ExecutorError", words), items=[])
        if order.wanted and os.path.exists(order.wanted) and os.access(order.folder, os.W_OK):
            with claims.held(order.wanted):
                return self._session.answer(
                    order.config,
                    order.folder,
                    durable=self._luggage.settings.durable,
                    code=order.code,
                    wanted=order.wanted,
                )
        folder = os.path.join(self._session.top, os.path.basename(order.folder))
        os.makedirs(folder, exist_ok=True)
        try:
            ray_files.unpack(folder, order.left, self._ray.get, durable=False)
            # What is tried again is tried from there, and only the copy that is kept has to reach the disk.
            answer = self._session.answer(order.config, folder, durable=False, code=order.code)
            try:
                return answer._replace(items=ray_files.pack(folder, self._ray.put, [item.name for item in order.left]))
            except Exception as error:  # the node's disk, or Ray's memory for objects, is full
                return answer._replace(outcome=failed(error), items=[])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Ask the cell to stop. Called while `run` is; no other cell follows."""
        if not self._luggage.mismatch:
            self._session.stop.count += 1


class _Lookout(guardian.Guardian):
    """A guardian that is not a child of the Ray worker: Ray kills a worker's children first, and nobody would be left.

    It has the supervisor's folder removed in the end.
    """

    def __init__(self, top: str) -> None:
        self._top = top
        super().__init__()

    def _start(self) -> Any:
        command = ["/bin/sh", "-c", _APART, _GUARD, self._top, sys.executable, "-I", "-S", guardian.__file__]
        shell = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, cwd="/", start_new_session=True)
        shell.wait()
        return shell


class _Session(PackedSession):
    """A session whose cells end if the head of the cluster is silent for too long: the run may start them elsewhere."""

    def __init__(self, luggage: Luggage, *, has_own_folder: bool = False) -> None:
        import ray

        self.top = tempfile.mkdtemp(prefix="pyexp-")
        self._watch = Watch(ray, BEAT, CUT_OFF)
        own = _at_home(pickle.loads(luggage.kit), has_own_folder=has_own_folder)
        super().__init__(luggage, own, serves=can_serve())
        self._wanted = ""
        self._environment["PYTHONBREAKPOINT"] = ""  # Ray's own would wait for a debugger

    def make_guardian(self) -> _Lookout:
        return _Lookout(self.top)

    def answer(self, config: bytes, folder: str, *, durable: bool, code: str, wanted: str = "") -> Answer:
        """How the cell with this config ends in that folder; at once when the file `wanted` is removed."""
        self._wanted = wanted
        # Ray blocks SIGINT here, and cells inherit that.
        unix.signal.pthread_sigmask(unix.signal.SIG_UNBLOCK, guardian.STOPPING)
        self.settings = replace(self.settings, durable=durable)
        began = time.monotonic()
        ended = self.run(config, folder, code, self._check)
        words = "the cell was asked to stop"
        if self._watch.is_silent():
            words = f"the node had not heard from the head of the Ray cluster for {CUT_OFF:g} s, and ended the cell"
        outcome = failure("NodeDiedError", words) if ended is None else ended.outcome
        seconds = time.monotonic() - began if ended is None else ended.seconds
        return Answer(outcome, seconds, socket.gethostname())

    def _check(self) -> None:
        """End the cell at once if the head has been silent for too long, or the run has given the cell up."""
        self.stop.count = 2 if self._watch.is_silent() else max(self.stop.count, stops(self._wanted))


def _at_home(kit: messages.Kit, *, has_own_folder: bool) -> messages.Kit:
    """The kit with the paths of this node: the run's working directory, if that is here and Ray has brought none.

    Modules are found in what Ray brought, then in the run's own folders that are here, then as this node finds them,
    but not among Ray's own, which a Ray worker is started in.
    """
    import ray

    brought = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sent = [entry for entry in kit.path if os.path.exists(entry)]
    here = [entry for entry in import_path() if not entry.startswith(os.path.dirname(ray.__file__))]
    kit = kit._replace(path=list(dict.fromkeys([*brought, *sent, *here])))
    if os.path.isdir(kit.folder) and not has_own_folder:
        return kit
    folder = os.getcwd()
    return kit._replace(folder=folder, script=kit.script and kit.script._replace(folder=folder))
