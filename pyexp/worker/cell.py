"""The life of a cell in a process of its own, from its config to its last word; and the process's end.

The last word is an outcome on the status pipe, and the parent believes nothing else. The end is that of any Python
process, in Python's order: threads are waited for, exit handlers run, what is open is flushed, and only then the result
is committed. It leaves by `_exit`, as a fork must not run its parent's code.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pyexp.store import files, pickling
from pyexp.worker import guardian, messages, unix
from pyexp.worker.outcome import attempt, failed, traceback_of

if TYPE_CHECKING:
    from pyexp.results import Outcome
    from pyexp.worker.messages import Cell

#: Exit statuses of a worker that could not say its word: its pipe was closed, or it was never told what to do.
MUTE, UNTOLD = 86, 87
#: In the place of an exit status that nobody knows.
UNKNOWN = 1 << 16
# What every file is, and every text file, in C: their abstract forms in Python cost a cell a third of a millisecond.
_FILE, _TEXT = io.BufferedWriter.__mro__[-2], io.TextIOWrapper.__mro__[1]
#: The last message, after the outcome: that this process never had a child, or that some of its may be left.
ALONE, PARENT = b"alone", b"parent"
#: The signal at which a cell writes the stacks of its threads to its log: one that nothing else uses.
STACKS = getattr(signal, "SIGRTMAX", None) if hasattr(faulthandler, "register") else None
#: Whether this process is a cell's.
in_cell = False


def dress(cell: Cell) -> None:
    """Give this process the cell's environment and title."""
    for name, value in cell.environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    entitle(f"pyexp {cell.title}")


def become(cell: Cell) -> None:
    """Let this process be the cell's."""
    global in_cell
    in_cell = True
    guardian.wear(cell.mark)  # after the title, which is a name too


def reseed() -> None:
    """Seed NumPy's global generator anew, if NumPy is there; Python does that to its own in every process."""
    with suppress(Exception):  # whatever is called numpy
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()


def entitle(title: str) -> None:
    """Let `ps` show this title, if setproctitle is installed."""
    if module := _setproctitle():
        module.setproctitle(title)


def title() -> str:
    """What `ps` shows."""
    return str(module.getproctitle()) if (module := _setproctitle()) else ""


@cache
def _setproctitle() -> Any:
    # Without this, it would write over what /proc shows as the environment, where the guardian looks for marks.
    os.environ["SPT_NOENV"] = "1"
    try:
        import setproctitle
    except ImportError:
        return None
    finally:
        del os.environ["SPT_NOENV"]
    return setproctitle


class Before(NamedTuple):
    """What was there when a process was forked for a cell, and is not the cell's to end.

    `files` are open files whose buffers were empty then; `ends` is what libraries that were there do at the end of
    each process, and had registered before the fork; `finalizers` were to run at the end.
    """

    files: Sequence[Any] = ()
    ends: Sequence[Callable[[], Any]] = ()
    finalizers: Sequence[Any] = ()


def set_apart(loaded: Sequence[Any] | None = None) -> Before:
    """Let the end of this process, or of its forks, end only what is made from now on.

    `loaded` are the open files of a server, which has loaded the script for its cells and for nothing else.
    """
    gc.freeze()  # what gc.get_objects() gives from now on was made since
    finalize: Any = weakref.finalize
    finalizers = [each for each in list(finalize._registry) if each.atexit]
    for each in finalizers:
        each.atexit = False
    finalize._registered_with_atexit = False  # so that the next one registers after the cell has begun
    ends = []
    if util := sys.modules.get("multiprocessing.util"):
        ends.append(util._exit_function)  # it looks whose each finalizer is
    if loaded is not None and "logging" in sys.modules:
        ends.append(sys.modules["logging"].shutdown)
    return Before(loaded or (), ends, finalizers)


def open_files() -> list[Any]:
    """The files that are open for writing, their buffers emptied."""
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), _FILE)]
    for thing in found:
        with suppress(Exception):
            thing.flush()
    return found


def live(call: Callable[[], Any], cell: Cell, status: int, before: Before | None = None) -> None:
    """Make the call, end what it began, commit its result, say the outcome on the status pipe, and end this process."""
    pipe, pid, mask = os.fstat(status), os.getpid(), umask()
    payload = b""
    outcome: Outcome = {}

    def keep(value: Any) -> list[str]:
        nonlocal payload
        payload, needs = pickling.packed(value) if os.getpid() == pid else (b"", [])
        return needs

    def end() -> None:
        os.umask(mask)  # the cell may have set another one, which is not for the run's files
        try:
            if outcome["status"] == "done":
                _commit(cell, payload, outcome)
            if outcome["status"] != "done":  # no result is left, and the log ends with the traceback
                with suppress(OSError):
                    os.unlink(cell.result_path)
                with suppress(OSError), open(cell.log_path, "ab") as log:
                    log.write(outcome["traceback"].encode())
            alone = is_alone()
            if not alone:
                guardian.end_descendants(cell.mark)
            # An experiment may close what it does not know, and open files since.
            if os.path.samestat(os.fstat(status), pipe):
                messages.write(status, [pickle.dumps(outcome), ALONE if alone else PARENT])
                os._exit(0)
        finally:  # not by the usual way out: in a fork that would run the parent's code
            os._exit(MUTE)

    if before is not None:  # handlers run from the last to the first: those before this one are not the cell's
        atexit.register(end)
        atexit.register(_finish, outcome, before)
    began = time.monotonic()
    outcome |= {**attempt(call, keep), "seconds": time.monotonic() - began}
    leave_if_forked(outcome, pid)
    _end_python(outcome, before or Before())
    end()


def umask() -> int:
    """What is taken from the mode of new files."""
    os.umask(mask := os.umask(0o077))  # it can only be read by setting it
    return mask


@contextmanager
def leaving(cell: Cell) -> Iterator[None]:
    """End this process after what is done here; an error that comes so early is written to the cell's log."""
    try:
        yield
    except BaseException as error:
        with suppress(BaseException), open(cell.log_path, "ab") as log:
            log.write(traceback_of(error).encode())
    finally:
        os._exit(UNTOLD)


def end_server(before: Before) -> NoReturn:
    """End a process that served, in Python's order, but for taking its modules apart."""
    for each in before.finalizers:
        each.atexit = True
    weakref.finalize._registered_with_atexit = True  # type: ignore[attr-defined]
    _end_python({}, Before(before.files))
    os._exit(0)


def _end_python(outcome: Outcome, before: Before) -> None:
    _guarded(threading._shutdown, outcome)  # type: ignore[attr-defined]  # as multiprocessing: hooks, then the threads
    _guarded(atexit._run_exitfuncs, outcome)
    _finish(outcome, before)


def _guarded(step: Callable[[], Any], outcome: Outcome) -> None:
    """Take a step of the end. What it raises is ignored, as Python does; but an interrupted cell has failed."""
    try:
        step()
    except KeyboardInterrupt as error:
        outcome.update(failed(error))
    except BaseException as error:
        with suppress(BaseException):
            words, trace = "at the end of the cell", error.__traceback__
            ignored: Any = SimpleNamespace(
                exc_type=type(error), exc_value=error, exc_traceback=trace, err_msg=words, object=step
            )
            sys.unraisablehook(ignored)


def _finish(outcome: Outcome, before: Before) -> None:
    """The end after the exit handlers: what is still there is finalized, what is open is flushed."""
    for step in (*before.ends, gc.collect, _finalize):
        _guarded(step, outcome)
    for stream in (*before.files, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(BaseException):  # the experiment may have closed it, or put anything in its place
            stream.flush()


def _finalize() -> None:
    """Do to what is still there what Python's end would: call its finalizer, close its file."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, sys.stdin, sys.__stdin__)
    kept = {id(part) for stream in streams for part in (stream, getattr(stream, "buffer", None))}
    opened: list[Any] = []
    for thing in gc.get_objects():  # of a fork only what was made since, as the rest is frozen
        kind = type(thing)
        if isinstance(getattr(kind, "__del__", None), FunctionType):
            with suppress(BaseException):
                kind.__del__(thing)
        elif issubclass(kind, _FILE) and id(thing) not in kept:
            opened.append(thing)
    opened.sort(key=lambda stream: not isinstance(stream, _TEXT))  # what writes to others comes first
    for stream in opened:
        with suppress(BaseException):
            stream.close()


def _commit(cell: Cell, payload: bytes, outcome: Outcome) -> None:
    """Commit the result; the cell has failed if that cannot be done."""
    try:
        files.commit(cell.result_path, payload, durable=cell.durable)
    except BaseException as error:  # the disk is full
        seconds = outcome["seconds"]
        outcome.clear()
        outcome |= {**failed(error), "seconds": seconds}


def leave_if_forked(outcome: Outcome, cell: int) -> None:
    """End this process if it is not the cell's, but one that the experiment has forked and let come out of it.

    How the cell ends, its own process says.
    """
    if os.getpid() == cell:
        return
    status = 0 if outcome["status"] == "done" else 1
    try:
        if outcome.get("type") == "SystemExit":
            status = int(outcome["message"].replace("None", "") or 0)
        else:
            sys.stderr.write(outcome.get("traceback", ""))
            sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def is_alone() -> bool:
    """Whether this process has no child, and never waited for one: then nothing can descend from it.

    Where that cannot be known, it is not alone.
    """
    if unix.resource is None or not hasattr(unix.os, "waitid"):
        return False
    try:
        unix.os.waitid(unix.os.P_ALL, 0, unix.os.WEXITED | unix.os.WNOHANG | unix.os.WNOWAIT)
    except ChildProcessError:
        unseen = signal.getsignal(unix.signal.SIGCHLD) == signal.SIG_IGN  # the system takes children away by itself
        return bool(not unseen and unix.resource.getrusage(unix.resource.RUSAGE_CHILDREN).ru_maxrss == 0)
    except OSError:
        pass
    return False


def take_log(path: str, written: bytes) -> None:
    """From now on, what this process writes goes to the log, after what it has written before. Raises OSError."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | files.BINARY, 0o666)
    with suppress(OSError):  # a full disk is a matter of the result, which comes later
        messages.write_all(log, written)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def unbuffered(descriptor: int) -> Any:
    """A text stream that writes at once, whatever the text, to a descriptor that it does not close."""
    raw: Any = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def out_of_the_way(descriptor: int) -> int:
    """The same under a high number, which an experiment that opens and closes descriptors does not meet by chance."""
    with suppress(OSError):  # no number that high
        if unix.fcntl is not None:
            return int(unix.fcntl.fcntl(descriptor, unix.fcntl.F_DUPFD_CLOEXEC, 500))
    return os.dup(descriptor)


def streams() -> tuple[Any, Any, Any]:
    """Streams for descriptors 0, 1 and 2, whatever these are by the time that they are used."""
    return open(0, encoding="utf-8", closefd=False), unbuffered(1), unbuffered(2)


def fresh_streams(made: tuple[Any, Any, Any] | None = None) -> None:
    """Give this process an empty stdin, and a stdout and stderr that write to descriptors 1 and 2 at once."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin, sys.stdout, sys.stderr = made or streams()
    faulthandler.enable(2)  # a crash leaves its Python traceback in the log
    if STACKS is not None:
        getattr(faulthandler, "register")(STACKS, 2)  # noqa: B009  # not known to every type checker
