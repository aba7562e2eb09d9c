"""Runs a cell in a process of its own, from its config to its outcome, and ends the process.

The outcome goes through the status pipe, and the parent trusts nothing else. The process ends like any Python process,
in Python's order: wait for threads, run exit handlers, flush open files; then commit the result. It ends by `_exit`, as
a fork must not run its parent's code.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import os
import pickle
import signal
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pyexp.store import files, pickling, unix
from pyexp.worker import guardian, messages
from pyexp.worker.outcome import attempt, failed, traceback_of

if TYPE_CHECKING:
    from pyexp.results import Outcome
    from pyexp.worker.messages import Assignment

#: Exit statuses of a worker that could not send its outcome, or that never got a cell.
MUTE, UNTOLD = 86, 87
#: Stands for an unknown exit status.
UNKNOWN = 1 << 16
# The C base classes of files and text files: their abstract classes in Python cost a cell a third of a millisecond.
_FILE, _TEXT = io.BufferedWriter.__mro__[-2], io.TextIOWrapper.__mro__[1]
#: The last message, after the outcome: this process never had a child, or children of its may be left.
ALONE, PARENT = b"alone", b"parent"
#: The signal that makes a cell write the stacks of its threads to its log: one that nothing else uses.
STACKS_SIGNAL = getattr(signal, "SIGRTMAX", None) if hasattr(faulthandler, "register") else None
#: Whether this process is a cell's.
in_cell = False


def become(cell: Assignment) -> None:
    """Give this process the environment of the cell, the title that `ps` shows, and the mark."""
    global in_cell
    os.environ.update(cell.environment)
    if module := titles():
        module.setproctitle(f"pyexp {cell.title}")
    in_cell = True
    guardian.wear(cell.mark)  # after the title, which sets the same name


def reseed() -> None:
    """Seed Python's and NumPy's global generators anew, if they are loaded.

    Python does so in a fork only: in a fresh interpreter, the script's `random.seed(0)` would hold for every cell.
    """
    for name in ("random", "numpy.random"):
        with suppress(Exception):  # another module may have this name
            if name in sys.modules:
                sys.modules[name].seed()


@cache
def titles() -> Any:
    """The module that sets titles; None if it is not installed."""
    # Otherwise it would overwrite the environment in /proc, where the guardian looks for marks.
    os.environ["SPT_NOENV"] = "1"
    try:
        import setproctitle
    except ImportError:
        return None
    finally:
        del os.environ["SPT_NOENV"]
    return setproctitle


class Before(NamedTuple):
    """What existed when a process was forked for a cell, so that the cell must not end it.

    `files`: open files with empty buffers. `ends`: exit functions of libraries, which these registered before the fork
    and which every process has to call. `finalizers`: the ones that were to run at the end of the process.
    """

    files: Sequence[Any] = ()
    ends: Sequence[Callable[[], Any]] = ()
    finalizers: Sequence[Any] = ()


def note_what_exists(loaded: Sequence[Any] | None = None) -> Before:
    """Make the end of this process and its forks affect only objects created from now on. Return what existed before.

    `loaded` are the open files of a server, which has loaded the script only for its cells.
    """
    gc.freeze()  # gc.get_objects() returns only newer objects from now on
    finalize: Any = weakref.finalize
    finalizers = [each for each in list(finalize._registry) if each.atexit]
    for each in finalizers:
        each.atexit = False
    finalize._registered_with_atexit = False  # so that the next one registers after the cell has begun
    ends = []
    if util := sys.modules.get("multiprocessing.util"):
        ends.append(util._exit_function)  # it runs only the finalizers of its own process
    if loaded is not None and "logging" in sys.modules:
        ends.append(sys.modules["logging"].shutdown)
    return Before(loaded or (), ends, finalizers)


def open_files() -> list[Any]:
    """The files that are open for writing, after flushing them."""
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), _FILE)]
    for thing in found:
        with suppress(Exception):
            thing.flush()
    return found


def files_being_read() -> list[int]:
    """The descriptors of files that are open for reading only, where that can be known (Linux)."""
    found = []
    with suppress(OSError):
        for number in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):  # the folder's own descriptor is in the list, and closed by now
                is_read = unix.fcntl.fcntl(number, unix.fcntl.F_GETFL) & unix.os.O_ACCMODE == os.O_RDONLY
                if is_read and number > 2 and stat.S_ISREG(os.fstat(number).st_mode):
                    found.append(number)
    return found


def reopen(descriptors: Sequence[int]) -> None:
    """Give this fork positions of its own in these files: otherwise a cell would go on where another one has read to.

    The cells share a file that they write to, so that none overwrites what another one has written.
    """
    for number in descriptors:
        with suppress(OSError):  # this user may not open it any more
            again = os.open(f"/proc/self/fd/{number}", unix.fcntl.fcntl(number, unix.fcntl.F_GETFL))
            try:
                os.lseek(again, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
                os.dup2(again, number, os.get_inheritable(number))
            finally:
                os.close(again)


def live(call: Callable[[], Any], cell: Assignment, status: int, before: Before | None = None) -> None:
    """Make the call, end what it began, commit its result, send the outcome to the status pipe, end this process."""
    pipe, pid, mask = os.fstat(status), os.getpid(), umask()
    payload = b""
    outcome: Outcome = {}

    def keep(value: Any) -> list[str]:
        nonlocal payload
        payload, needs = pickling.packed(value) if os.getpid() == pid else (b"", [])
        return needs

    def end() -> None:
        os.umask(mask)  # the cell may have changed it, but not for the run's files
        try:
            if outcome["status"] == "done":
                try:
                    files.keep_unsealed(cell.result_path)
                    files.commit(cell.result_path, payload, durable=cell.durable, code=cell.code)
                except BaseException as error:  # the disk is full
                    seconds = outcome["seconds"]
                    outcome.clear()
                    outcome.update({**failed(error), "seconds": seconds})
            if outcome["status"] != "done":  # remove the result, and end the log with the traceback
                with suppress(OSError):
                    os.unlink(cell.result_path)
                with suppress(OSError), open(cell.log_path, "ab") as log:
                    log.write(outcome["traceback"].encode())
            alone = is_alone()
            if not alone:
                guardian.end_descendants(cell.mark)
            # The experiment may have closed the pipe, and opened a file under its number.
            if os.path.samestat(os.fstat(status), pipe):
                messages.write(status, [pickle.dumps(outcome), ALONE if alone else PARENT])
                os._exit(0)
        finally:  # the usual exit would run the parent's code in a fork
            os._exit(MUTE)

    if before is not None:  # handlers run from the last to the first: `end` comes before the parent's
        atexit.register(end)
        atexit.register(_finish, outcome, before)
    began = time.monotonic()
    outcome |= {**attempt(call, keep), "seconds": time.monotonic() - began}
    leave_if_forked(outcome, pid)
    _end_python(outcome, before or Before())
    end()


def umask() -> int:
    """The umask of this process."""
    os.umask(mask := os.umask(0o077))  # reading it requires setting it
    return mask


@contextmanager
def leaving(cell: Assignment) -> Iterator[None]:
    """End this process after the block. Write an error that comes before the call to the cell's log."""
    try:
        yield
    except BaseException as error:
        with suppress(BaseException), open(cell.log_path, "ab") as log:
            log.write(traceback_of(error).encode())
    finally:
        os._exit(UNTOLD)


def end_server(before: Before) -> NoReturn:
    """End a server process in Python's order, without tearing down its modules."""
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
    """Make one step of the end. Ignore its exceptions, as Python does, except that KeyboardInterrupt fails the cell."""
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
    """The end after the exit handlers: finalize the remaining objects, flush the streams."""
    for step in (*before.ends, gc.collect, _finalize):
        _guarded(step, outcome)
    for stream in (*before.files, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(BaseException):  # the experiment may have closed it, or put anything in its place
            stream.flush()


def _finalize() -> None:
    """Call the finalizers and close the files of all remaining objects, as Python does at its end."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, sys.stdin, sys.__stdin__)
    kept = {id(part) for stream in streams for part in (stream, getattr(stream, "buffer", None))}
    opened: list[Any] = []
    for thing in gc.get_objects():  # in a fork only newer objects, as the older ones are frozen
        kind = type(thing)
        if isinstance(getattr(kind, "__del__", None), FunctionType):
            with suppress(BaseException):
                kind.__del__(thing)
        elif issubclass(kind, _FILE) and id(thing) not in kept:
            opened.append(thing)
    opened.sort(key=lambda stream: not isinstance(stream, _TEXT))  # text files first: they write to others
    for stream in opened:
        with suppress(BaseException):
            stream.close()


def leave_if_forked(outcome: Outcome, cell: int) -> None:
    """End this process if it is a fork that the experiment made and that has returned from it.

    The cell's own process sends the outcome.
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
    """Whether this process has no child and never waited for one, so that it has no descendants.

    False if that cannot be known.
    """
    if unix.resource is None or not hasattr(unix.os, "waitid"):
        return False
    try:
        unix.os.waitid(unix.os.P_ALL, 0, unix.os.WEXITED | unix.os.WNOHANG | unix.os.WNOWAIT)
    except ChildProcessError:
        unseen = signal.getsignal(unix.signal.SIGCHLD) == signal.SIG_IGN  # then the system reaps children itself
        return bool(not unseen and unix.resource.getrusage(unix.resource.RUSAGE_CHILDREN).ru_maxrss == 0)
    except OSError:
        pass
    return False


def take_log(path: str, written: bytes) -> None:
    """Send the output of this process to the log from now on, after what it wrote before. Raises OSError."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | files.BINARY, 0o666)
    with suppress(OSError):  # on a full disk, committing the result will fail
        files.write_all(log, written)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


@contextmanager
def standard_descriptors() -> Iterator[None]:
    """While this lasts, the descriptors 0, 1 and 2 are open, so that no pipe, lock or log gets one of these numbers.

    Those that were closed lead to /dev/null, and are closed again after.
    """
    opened = []
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        opened.append(null)
    os.close(null)
    try:
        yield
    finally:
        for descriptor in opened:
            with suppress(OSError):  # a cell that ran in this process has closed it
                os.close(descriptor)


def unbuffered(descriptor: int) -> Any:
    """An unbuffered text stream that can write any text, and that does not close its descriptor."""
    raw: Any = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def out_of_the_way(descriptor: int) -> int:
    """A duplicate of the descriptor with a high number, which an experiment will not close by accident."""
    with suppress(OSError):  # the number is too high for the limit
        if unix.fcntl is not None:
            return int(unix.fcntl.fcntl(descriptor, unix.fcntl.F_DUPFD_CLOEXEC, 500))
    return os.dup(descriptor)


def fresh_streams() -> None:
    """Give this process an empty stdin, and an unbuffered stdout and stderr on descriptors 1 and 2."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, encoding="utf-8", closefd=False), unbuffered(1), unbuffered(2)
    faulthandler.enable(2)  # a crash leaves its Python traceback in the log
    if STACKS_SIGNAL is not None:
        getattr(faulthandler, "register")(STACKS_SIGNAL, 2)  # noqa: B009  # not known to every type checker
