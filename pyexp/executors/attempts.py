"""A cell as a value that any engine can carry: called on a machine that sees the run's folder, it runs the cell there.

The engine's process only supervises. The cell has a process of its own, a fresh interpreter, as with `subprocess`: its
log, its commit, its timeout and the reason of its death are pyexp's, whatever the engine is.
"""

import functools
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pyexp import __version__
from pyexp.configs import Config, FrozenConfig, freeze, thaw
from pyexp.errors import UsageError
from pyexp.executors.base import Function, RunSettings, StopRequest, Task
from pyexp.executors.loop import Ended, finished, schedule
from pyexp.executors.processes import WorkerSession, import_path, interpreter_flags, rest_for_others
from pyexp.executors.threads import Outcome, Prepared, cell_here
from pyexp.store import claims
from pyexp.store.layout import RESULT
from pyexp.store.pickling import dumps
from pyexp.worker import messages
from pyexp.worker.naming import Shipment
from pyexp.worker.outcome import failed, failure

#: A function travels by its code, which other versions of Python read differently.
VERSION = f"pyexp {__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"


class Luggage(NamedTuple):
    """What all cells of a run have in common: the messages that workers get ready with, and what holds for them.

    The messages stay pickles until the version is known to be the same.
    """

    kit: bytes
    rest: bytes
    flags: list[str]
    settings: RunSettings
    version: str = VERSION

    @property
    def mismatch(self) -> str:
        """Why this machine cannot run the cells; `""` if it has the version that started the run."""
        if self.version == VERSION:
            return ""
        return f"{socket.gethostname()} has {VERSION}, but the run was started by {self.version}; install the same"


def packed(fn: Function, settings: RunSettings, path: list[str] | None = None) -> Luggage:
    """What the cells of a function need elsewhere. They find modules in `path`, or as this process does.

    Raises `ConfigError` for a function that cannot be sent.
    """
    shipment = Shipment(fn, settings.initializer, import_path() if path is None else path)
    rest = rest_for_others(shipment, settings)
    there = replace(settings, jobs=1, retries=0, capture=True, pdb=False, initializer=None, gpus=())
    return Luggage(pickle.dumps(shipment.kit), rest, interpreter_flags(), there)


class PackedCell(NamedTuple):
    """One cell, to be run elsewhere.

    `wanted` is the path of a file. If it is missing, the cell does not begin, or is killed. If it is empty, the
    cell is asked to stop. With `""`, nothing stops the cell.

    `code` is the short identity of its code.
    """

    luggage: Luggage
    config: bytes
    folder: str
    wanted: str = ""
    code: str = ""

    @classmethod
    def of(cls, luggage: Luggage, config: FrozenConfig, folder: str, wanted: str = "", code: str = "") -> "PackedCell":
        """The cell with this config and folder."""
        return cls(luggage, dumps(thaw(config), "config"), folder, wanted, code)


def attempt(
    fn: Callable[[Config], Any], config: Config, result_path: Path | str, *, timeout: float | None = None
) -> Callable[[], Outcome]:
    """A function without arguments that runs a cell wherever it is called. It can be pickled.

    Send it to another process or machine, call it there, and return its `Outcome` from your executor's `run`. That
    machine needs the same version of pyexp, and the folder of `result_path` under the same path. The cell runs in a
    process of its own, which is killed after `timeout` seconds. When the call returns, the log and the result are in
    the cell's folder.

    >>> call = attempt(lambda config: config.x + 1, Config(x=1), folder / "result.pkl", timeout=60)
    >>> call()["status"]
    'done'

    Raises `ConfigError` for a function or config that cannot be sent, and `UsageError` for a wrong `result_path`.
    """
    path = Path(result_path).absolute()
    if path.name != RESULT:
        raise UsageError(f"result_path is {str(result_path)!r}; it takes the path of a cell's {RESULT}")
    frozen = freeze({key: value for key, value in config.items() if key != "out"})
    here, folder = cell_here.get(), str(path.parent)
    wanted = here.attempt_begins() if here is not None and here.task.folder == folder else ""
    code = "" if here is None else here.task.code
    return functools.partial(perform, PackedCell.of(_packed_once(fn, timeout), frozen, folder, wanted, code))


def _packed_once(fn: Function, timeout: float | None) -> Luggage:
    """The luggage for cells of the function; one for a run, so that an edit meanwhile reaches no cell."""
    here = cell_here.get()
    inner, initializer = (fn.fn, fn.initializer) if isinstance(fn, Prepared) else (fn, None)
    settings = RunSettings(timeout=timeout, initializer=initializer)
    if here is None or here.task.fn is not inner:
        return packed(inner, settings)
    with here.packing:
        if timeout not in here.luggage:
            here.luggage[timeout] = packed(inner, settings)
        found: Luggage = here.luggage[timeout]
        return found


def perform(cell: PackedCell) -> Outcome:
    """Run the cell on this machine, and return how it ended: with `host`, `started` and `seconds`."""
    began = time.time()
    outcome = failure("Cancelled", "the run ended the cell")
    try:
        if cell.luggage.mismatch:
            outcome = failure("ExecutorError", cell.luggage.mismatch)
        elif not os.path.isdir(cell.folder):
            words = f"{socket.gethostname()} does not see {cell.folder}: all machines have to see the output folder"
            outcome = failure("ExecutorError", words)
        elif stops(cell.wanted) == 0:
            with claims.held(cell.wanted):  # an engine that has lost sight of a cell may run it again meanwhile
                if cell.wanted and (told := finished(_task(cell.folder, cell.code), None)) is not None:
                    outcome = told
                elif stops(cell.wanted) == 0 and (ended := _run(cell)) is not None:
                    outcome, began = {**ended.outcome, "seconds": ended.seconds}, ended.started
    except Exception as error:  # this machine has no process or no disk to give: that is how the cell ended
        outcome = failed(error)
    return Outcome({"seconds": time.time() - began, **outcome, "started": began, "host": socket.gethostname()})


def _run(cell: PackedCell) -> Ended | None:
    """How the cell ended; None if the run did not want it to the end."""
    with PackedSession(cell.luggage, pickle.loads(cell.luggage.kit), serves=False) as session:

        def look() -> None:
            session.stop.count = max(session.stop.count, stops(cell.wanted))

        ended = session.run(cell.config, cell.folder, cell.code, look)
    return ended if stops(cell.wanted) < 2 else None  # a result in the folder may be of another attempt


def stops(wanted: str) -> int:
    """0 while the run wants the cell of this file, 1 if it has asked it to stop, 2 if it is to end at once."""
    if not wanted:
        return 0
    try:
        return 0 if os.stat(wanted).st_size else 1
    except FileNotFoundError:
        return 2
    except OSError:  # the disk does not answer just now
        return 0


class PackedSession(WorkerSession):
    """A session for a function and configs that came as pickles, and stay so in this process: one cell at a time."""

    def __init__(self, luggage: Luggage, kit: messages.Kit, *, serves: bool) -> None:
        super().__init__(luggage.settings, StopRequest(), kit, lambda _: luggage.rest, serves=serves)
        self._rest, self._flags, self._config = luggage.rest, luggage.flags, b""

    def run(self, config: bytes, folder: str, code: str, look: Callable[[], None]) -> Ended | None:
        """Run the cell with this config in its folder; None if it was stopped. `look` is called again and again."""
        self._config = config
        endings = list(schedule(self, iter([_task(folder, code)]), look))  # to its end
        return endings[0] if endings else None

    def _pickled_config(self, task: Task) -> bytes:
        return self._config


def _task(folder: str, code: str) -> Task:
    return Task(os.path.basename(folder), _nothing, freeze({}), folder, code=code)


def _nothing(_config: Config) -> None:
    """In the place of a function, which only the cell's own process unpickles."""
