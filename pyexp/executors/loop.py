"""The loop over a run's cells: it fills slots, keeps deadlines, tries again, and winds down when a signal comes.

Knows tasks and outcomes; how a cell runs is its session's matter.
"""

import errno
import math
import os
import pickle
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyexp.configs import Config, freeze
from pyexp.devices import free, grant
from pyexp.errors import ExecutorError
from pyexp.executors.base import Executor, Function, Running, RunSettings, Session, StopRequest, Task
from pyexp.executors.logs import log_tail
from pyexp.results import Attempt, Outcome, done
from pyexp.store import files, pickling, records
from pyexp.store.layout import RESULT
from pyexp.worker.outcome import failed, failure

#: Seconds after which the loop looks for signals and for cells that others have left, while nothing else happens.
TICK = 0.1
#: What the system says when it has no process, descriptor or memory to give just now.
_SCARCE = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_END = object()


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell that has ended: its outcome, when it began and how long it took."""

    task: Task
    outcome: Outcome
    started: float
    seconds: float


def schedule(
    session: Session, tasks: Iterator[Task | None], tick: Callable[[], None] = lambda: None
) -> Generator[Ended, None, None]:
    """Run the tasks in the session, as many at a time as it has slots, and give each as it ends.

    A task is taken when there is a slot for it; None in its place means that there is none just now. A cell that fails
    is tried again as often as the settings say, one that exceeds their timeout is killed. When it is too late for a
    cell to begin, those that run finish, and nothing is taken or tried again. At a signal, or if the caller
    stops, the running cells are asked to stop, then killed; only those that finish meanwhile are given. `tick` is
    called again and again, to show that time goes by, or that cells take theirs to stop.
    """
    scheduler = _Scheduler(session, tasks, tick)
    try:
        ended: list[Ended] = []
        while scheduler.is_busy and not session.stop.count:
            if any(one.outcome["status"] != "done" for one in ended):  # after a failure there may be no next cell
                yield from ended
                ended = []
            try:
                ended += scheduler.fill()  # the next cells begin before the caller has put the last ones down
            finally:
                yield from ended
            tick()
            ended = list(scheduler.collect()) if scheduler.is_busy else []
        yield from ended
        yield from scheduler.shutdown()
    finally:
        scheduler.shutdown()


def is_tried_again(outcome: Outcome, failures: int, retries: int) -> bool:
    """Whether a cell that ended so, after so many failed attempts before this one, is to run again."""
    return outcome["status"] != "done" and failures < retries


@dataclass
class _Scheduler:
    """The running cells, and those to follow: first the ones to be tried again, then new ones."""

    session: Session
    tasks: Iterator[Task | None]
    tick: Callable[[], None]
    running: list[Running] = field(default_factory=list)
    backlog: list[Task] = field(default_factory=list)
    more: bool = True
    #: The cells that the system can carry, once it has refused one.
    carried: float = math.inf

    @property
    def is_busy(self) -> bool:
        return bool(self.more or self.backlog or self.running)

    def fill(self) -> Iterator[Ended]:
        """Start cells while there are slots, tokens and tasks; give those that could not be started at all."""
        tokens = self.session.settings.gpus
        most = len(tokens) or math.inf
        while len(self.running) < min(self.session.slots(), self.carried, most) and not self.session.stop.count:
            if self.session.stop.is_late:
                self.more = False
                self.backlog.clear()
                return
            task = self.backlog.pop(0) if self.backlog else next(self.tasks, _END) if self.more else None
            if not isinstance(task, Task):
                self.more = self.more and task is not _END
                return
            if tokens:
                held = [running.task.gpu for running in self.running]
                ((task, token),) = grant(free(tokens, held), [task], held)
                task = replace(task, gpu=token)
            try:
                self.running.append(self.session.start(task))
            except KeyboardInterrupt:
                if not self.session.stop.count:
                    raise
            except Exception as error:  # whatever the system refuses, the other cells go on
                if self.running and isinstance(error, OSError) and error.errno in _SCARCE:
                    self.carried = len(self.running)  # this one waits for its turn
                    self.backlog.append(task)
                else:
                    yield Ended(task, failed(error), time.time(), 0.0)

    def collect(self) -> Iterator[Ended]:
        """Wait up to a tick or the next deadline, and give the cells that have ended or exceeded the timeout."""
        limit = math.inf if self.session.settings.timeout is None else self.session.settings.timeout
        first = min((running.began for running in self.running), default=math.inf) + limit
        for running, outcome in self.session.wait(self.running, min(max(first - time.monotonic(), 0.0), TICK)):
            yield from self._settle(running, outcome)
        for running in [one for one in self.running if time.monotonic() - one.began > limit]:
            words = f"ran for longer than {limit:g} s and was killed"
            told = self.session.overdue(running)
            yield from self._settle(running, told or failure("TimeoutError", words, log_tail(running.task.log_path)))

    def _settle(self, running: Running, outcome: Outcome) -> Iterator[Ended]:
        """Give a cell that has ended, unless it is tried again; then its log is kept beside the next one's."""
        self.running.remove(running)
        task, tries = running.task, len(running.task.failures)
        outcome = finished(task, outcome) or outcome
        ended = _ended(running, outcome)
        if not is_tried_again(outcome, tries, 0 if self.session.stop.is_late else self.session.settings.retries):
            yield ended
            return
        tried = Attempt(outcome["type"], outcome["message"], ended.started, ended.seconds)
        with suppress(OSError):
            records.keep_log(task.log_path)
        self.backlog.append(replace(task, failures=(*task.failures, tried)))

    def shutdown(self) -> list[Ended]:
        """Ask the running cells to stop, and kill them when their grace is over or a second signal comes.

        Return the cells that finished before they were killed.
        """
        ended: list[tuple[Running, Outcome | None]] = []
        for running in self.running:
            self.session.ask_to_stop(running)
        deadline = time.monotonic() + self.session.settings.grace
        while self.running and time.monotonic() < deadline and self.session.stop.count < 2:
            for running, outcome in self.session.wait(self.running, TICK):
                self.running.remove(running)
                ended.append((running, outcome))
            if self.running:
                self.tick()
        while self.running:
            running = self.running.pop()
            ended.append((running, self.session.kill(running)))
        return [_ended(running, last) for running, told in ended if (last := finished(running.task, told)) is not None]


def _ended(running: Running, outcome: Outcome) -> Ended:
    began = running.began  # infinite if it ran elsewhere, and did not say when it began
    lasted = time.monotonic() - began if math.isfinite(began) else time.time() - running.started
    seconds = outcome.get("seconds", max(lasted, 0.0))
    return Ended(running.task, outcome, running.started, seconds)


def finished(task: Task, told: Outcome | None) -> Outcome | None:
    """The outcome of a cell that has finished: the one it told, or else the one that its result shows. None if neither.

    A worker that dies or is stopped between its commit and its last word leaves a sealed result, which is not to be
    computed again. The result of other code is that of a cell which an earlier run left on another machine.
    """
    if told is not None and told["status"] == "done":
        return told
    try:
        content = files.read(task.result_path, trust="")
        size, seal = files.unsealed(content)
        is_own = seal is not None and seal.code.strip() in (b"", task.code.encode())
        return done(*pickling.load_noting(content, size)) if is_own else None
    except Exception:  # there is none, or it is damaged
        return None


def run_one(executor: Executor, fn: Function, config: Config, path: Path) -> Any:
    """What `fn(config)` returns, run as one cell in the executor, its result at `path`.

    Raises `ExecutorError` with the cell's error if it failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frozen = freeze({key: value for key, value in config.items() if key != "out"})
    with executor.session(fn, RunSettings(), StopRequest()) as session:
        (ended,) = schedule(session, iter([Task(path.parent.name, fn, frozen, str(path.parent))]))
    if ended.outcome["status"] != "done":
        told = ended.outcome
        raise ExecutorError(f"{told['type']}: {told['message']}\n{told['traceback']}".rstrip())
    if path.name != RESULT:
        os.replace(path.parent / RESULT, path)
    return pickle.loads(path.read_bytes())
