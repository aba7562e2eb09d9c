"""Users' executors: each call of their `run` in a thread of its own, so that the loop stays awake."""

import os
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

from pyexp.configs import Config
from pyexp.executors.base import Executor, Function, Running, RunSettings, Session, StopRequest, Task
from pyexp.results import Outcome as Told
from pyexp.store import claims, files, pickling
from pyexp.store.layout import WANTED
from pyexp.worker.guardian import new_mark
from pyexp.worker.outcome import attempt

#: The cell that this thread runs, for the attempts at it that are made elsewhere.
cell_here: "ContextVar[ThreadCell | None]" = ContextVar("cell_here", default=None)


class Outcome(dict[str, Any]):
    """How a cell ended that ran elsewhere: what the function from `pyexp.attempt` returns. A dict.

    `status` is `done` or `failed`. `done`: the result is committed already. `failed`: `type`, `message` and `traceback`
    describe the cell's error. The `run` of your executor may return it unchanged.

    >>> Outcome(status="failed", type="ValueError", message="diverged", traceback="")["status"]
    'failed'
    """


class Prepared:
    """An experiment's function that calls the initializer first, once in each process that it is called in.

    The initializer may set what holds for one context only, so all cells of a process are called in copies of its own.
    """

    def __init__(self, fn: Function, initializer: Callable[[], Any], mark: str) -> None:
        update_wrapper(self, fn)
        self.fn, self.initializer, self.mark = fn, initializer, mark

    def __call__(self, config: Config) -> Any:
        with _getting_ready:
            if self.mark not in _ready:
                context = copy_context()
                context.run(self.initializer)
                _ready[self.mark] = context
        return _ready[self.mark].copy().run(self._call, config)

    def _call(self, config: Config) -> Any:
        own_decimals()
        return self.fn(config)


#: The contexts in which the initializers were called, by the mark of their run.
_ready: dict[str, Context] = {}
_getting_ready = threading.RLock()


def own_decimals() -> None:
    """Give this context decimals of its own: a copy of a context shares what is changed in place."""
    if decimal := sys.modules.get("decimal"):
        decimal.setcontext(decimal.getcontext().copy())


class ThreadCell(Running):
    """A cell in a thread. The holder of `ending` decides how it ends: with an `outcome`, or `left` to itself.

    An attempt at it elsewhere goes on while the file `wanted` exists. `luggage` is what all cells of the run have in
    common, by their timeout; the holder of `packing` may add to it.
    """

    def __init__(self, task: Task, luggage: dict[float | None, Any], packing: threading.Lock) -> None:
        super().__init__(task)
        self.luggage, self.packing = luggage, packing
        self.ending = threading.Lock()
        self.returned = threading.Event()
        self.outcome: Told | None = None
        self.left = False
        self.wanted = ""

    def attempt_begins(self) -> str:
        """The file `wanted` of a new attempt, which ends an earlier one."""
        if self.wanted:
            claims.end_holders([self.wanted])
        with self.ending:
            self.wanted = os.path.join(self.task.folder, files.temporary_name(WANTED))
            if not self.left:
                with open(self.wanted, "xb") as file:
                    file.write(b"1")
            return self.wanted


class ThreadSession(Session):
    """Calls `executor.run` in a thread for each cell."""

    def __init__(self, executor: Executor, settings: RunSettings, stop: StopRequest) -> None:
        super().__init__(settings, stop)
        self._executor = executor
        self._some_ended = threading.Event()
        self._mark = new_mark()
        self._patience = claims.PATIENCE  # after one attempt elsewhere that does not end, none has any
        self._luggage: dict[float | None, Any] = {}
        self._packing = threading.Lock()

    def close(self) -> None:
        self._executor.close()

    def start(self, task: Task) -> ThreadCell:
        running = ThreadCell(task, self._luggage, self._packing)
        # Without a copy of this context, a thread has Python's defaults: NumPy would forget `seterr`, decimals their
        # precision. A daemon: Python must be able to exit while a thread that cannot be killed still runs.
        perform, name = partial(copy_context().run, self._perform, running), f"pyexp {task.label}"
        threading.Thread(target=perform, name=name, daemon=True).start()
        return running

    def _perform(self, running: ThreadCell) -> None:
        task = running.task
        returned: list[Any] = []
        cell_here.set(running)
        own_decimals()
        fn, initializer = task.fn, self.settings.initializer
        if initializer is not None:
            fn = Prepared(fn, initializer, self._mark)
        outcome = attempt(
            lambda: returned.append(self._executor.run(fn, task.private_config(), Path(task.result_path))),
            lambda _: [],
        )
        if running.wanted:  # `run` may have lost sight of the attempt, and a retry has the same folder
            claims.end_holders([running.wanted])
        running.returned.set()
        with running.ending:
            if running.left:  # the folder may be another attempt's by now
                return
            if returned and isinstance(returned[0], Outcome):
                outcome = dict(returned[0])
            elif returned:
                outcome = attempt(
                    returned.pop,
                    lambda value: pickling.save(task.result_path, value, durable=self.settings.durable, code=task.code),
                )
            if outcome["status"] != "done":
                with suppress(OSError):  # it may have written a result before it failed
                    os.unlink(task.result_path)
            running.outcome = outcome
        self._some_ended.set()

    def wait(self, running: Collection[ThreadCell], seconds: float) -> list[tuple[ThreadCell, Told]]:
        self._some_ended.wait(seconds)
        self._some_ended.clear()
        return [(one, one.outcome) for one in running if one.outcome is not None]

    def ask_to_stop(self, running: ThreadCell) -> None:
        with running.ending, suppress(OSError):
            os.truncate(running.wanted, 0)

    def kill(self, running: ThreadCell) -> Told | None:
        """Leave the thread to itself, as it cannot be killed; what it returns later is ignored.

        A cell whose result is just being saved ends first. An attempt elsewhere is ended, and waited for a while: a
        retry has the same folder.
        """
        with running.ending:
            running.left = True
            with suppress(OSError):
                os.unlink(running.wanted)
        if running.wanted and not running.returned.wait(self._patience):
            self._patience = 0.0  # nobody there hears of it
        return running.outcome
