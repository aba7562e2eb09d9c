"""What a fresh interpreter does: get ready, then run the one cell that it is given, or fork a child for each of many.

It reads messages on descriptor 0, and answers on 1. Descriptor 2 is the cell's log, or a file for what is written
before there is a cell.
Getting ready is the same for all: the import path, the script, what was set in it since, the initializer.
"""

import errno
import gc
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pyexp.store import pickling
from pyexp.worker import cell as cells
from pyexp.worker import guardian, messages, script, unix
from pyexp.worker.messages import Cell, Fork, Kit, Lack, Reap, Rest

#: Device files that a process has open which computes on an accelerator: it must not be forked. CUDA opens nvidia-uvm;
#: one that has only counted the GPUs, by NVML, has nvidiactl and nvidia0, and may be forked.
_DEVICES = ("/dev/nvidia-uvm", "/dev/kfd", "/dev/dri", "/dev/dxg")


def main() -> None:
    """Get ready, and run the cell or serve; never return."""
    control, status = map(cells.out_of_the_way, (0, 1))
    os.dup2(2, 1)
    cells.fresh_streams()
    if hasattr(signal, "SIGBREAK"):  # it stands for Ctrl-C where that cannot be sent to one process
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    try:
        read = partial(messages.read, partial(os.read, control))
        kit: Kit = pickle.loads(read())
        if kit.guardian is not None:  # no program that the script starts may keep it open
            os.set_inheritable(kit.guardian, False)
        with _asking_nvml() if kit.serves else nullcontext():
            lack, fault = _load(kit)
        if kit.answers:
            messages.write(status, [pickle.dumps(lack)])
        rest = read()
        if kit.serves:
            call = _ready(kit, lack, fault, rest)
            why = unfit()
            messages.write(status, [why.encode()])
            if not why:
                _serve(control, kit.guardian, call)
        cell: Cell = pickle.loads(read())
    except (EOFError, OSError):  # the parent has no cell for this process, or is dead
        os._exit(cells.UNTOLD)
    os.close(control)
    with cells.leaving(cell):
        cells.dress(cell)
        cells.become(cell)
        if kit.answers:
            written = _written()
            os.ftruncate(2, 0)  # what is there at the end, the parent puts into the log
            os.lseek(2, 0, os.SEEK_SET)
            cells.take_log(cell.log_path, written)
        if not kit.serves:
            call = _ready(kit, lack, fault, rest)
        cells.reseed()
        cells.live(_calling(call, cell, lambda: None), cell, status)


@contextmanager
def _asking_nvml() -> Iterator[None]:
    """While this lasts, PyTorch asks whether there is a GPU in a way that leaves a process fit to be forked."""
    variable = "PYTORCH_NVML_BASED_CUDA_CHECK"
    is_ours = variable not in os.environ
    os.environ.setdefault(variable, "1")
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop(variable, None)


def _written() -> bytes:
    """What this process wrote before it had a log."""
    with open(2, "rb", closefd=False) as early:
        early.seek(0)
        return early.read()


def _calling(call: Callable[[Any], Any], cell: Cell, begin: Callable[[], Any]) -> Callable[[], Any]:
    """What runs the cell: it begins, and makes the call with its config."""
    out = Path(cell.result_path).parent

    def run() -> Any:
        begin()
        config = pickling.loads(cell.config)
        config["out"] = out
        return call(config)

    return run


def _load(kit: Kit) -> tuple[Lack, BaseException | None]:
    """Load the script; what this worker lacks then, and what the script raised."""
    sys.path[:] = kit.path
    sys.argv[:] = kit.argv
    import pyexp.results  # noqa: F401  # what configs and outcomes are made by, before a server forks

    sys.meta_path.insert(0, script.Finder(kit.sources))
    try:
        if kit.script is not None:
            with suppress(OSError):
                os.chdir(kit.script.folder)
            script.load(kit.script)
        with suppress(OSError):
            os.chdir(kit.folder)
    except BaseException as error:  # a script may raise anything, or exit
        return Lack(failed=True), error
    if kit.script is None or not (kit.asked.values or kit.asked.paths):
        return Lack(), None
    from pyexp.worker import naming  # a script without globals need not pay for it

    return naming.lacking(kit.asked, script.main_namespace()), None


def _ready(kit: Kit, lack: Lack, fault: BaseException | None, rest: bytes) -> Callable[[Any], Any]:
    """The experiment's function; if getting ready failed, one that raises why, so that this is a cell's outcome."""
    try:
        if fault is not None:
            raise fault
        values, fn, initializer = Rest(*pickle.loads(rest))
        # Only what this worker lacks: the others stay as they were loaded, since the script may refer to them.
        lacking = lack.names(kit.asked)
        script.main_namespace().update({name: value for name, value in values.items() if name in lacking})
        if initializer is not None:
            initializer()
        return fn
    except BaseException as error:
        why = error

    def refuse(_config: Any) -> Any:
        raise why

    return refuse


def unfit() -> str:
    """Why this process must not be forked for cells; `""` if it may be.

    A fork has the thread that forked and no other: what another one had locked stays locked, and a pool of threads is
    gone without knowing it. Some pools (OpenBLAS) put themselves away at a fork, so one is made first.
    """
    if device := opened_device():
        return f"{device} is open, which a fork cannot use"
    threads = threads_after_fork()
    others = "a thread runs" if threads == 2 else f"{threads - 1} threads run"
    return "" if threads == 1 else f"{others} beside the main one, which a fork would not have"


def opened_device() -> str:
    """The file of an accelerator that this process has open; `""` where it has none, or that cannot be seen."""
    opened = []
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the folder's own descriptor is in the list, and closed by now
                opened.append(os.readlink(f"/proc/self/fd/{name}"))
    return min((path for path in opened if path.startswith(_DEVICES)), default="")


def threads_after_fork() -> int:
    """How many threads this process has, native ones too, once it has forked a child that ended at once (Linux)."""
    pid = unix.os.fork()
    if pid == 0:
        os._exit(0)
    with suppress(ChildProcessError):  # SIGCHLD is ignored
        os.waitpid(pid, 0)
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _serve(control: int, pipe: int | None, call: Callable[[Any], Any]) -> NoReturn:
    """Fork a child for each cell that is asked for, until the run hangs up; then end as any Python process does."""
    import socket  # a fresh interpreter need not pay for it

    unix_socket: Any = socket
    link = socket.socket(fileno=control)
    written, here = _written(), os.getpid()
    # The run says when to stop. A child makes itself ready before it hears a signal.
    mask = unix.signal.pthread_sigmask(unix.signal.SIG_BLOCK, guardian.STOPPING)
    cells.reseed()
    opened = cells.open_files()
    gc.collect()
    before = cells.set_apart(opened)
    title = cells.title()
    while True:
        # What can be done before the fork is: a child pays for each page that it is the first to write to.
        try:
            head, descriptors, _, _ = unix_socket.recv_fds(link, messages.WIDTH, 2)
            asked: Fork | Reap = pickle.loads(messages.read(link.recv, head))
        except (EOFError, OSError):  # the run has hung up
            cells.end_server(before)
        answer: Any = None
        if isinstance(asked, Reap):
            answer = reaped(asked.pid)
        elif len(descriptors) < asked.descriptors:
            answer = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        else:
            for pid in asked.done:
                reaped(pid)
            kept = [cells.out_of_the_way(each) for each in descriptors]  # the cell's claim, its status pipe
            for each in descriptors:
                os.close(each)
            descriptors, cell = kept, asked.cell
            cells.dress(cell)

            def begin_cell(path: str = cell.log_path) -> None:
                cells.take_log(path, written)
                unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, mask)

            run = _calling(call, cell, begin_cell)
            try:
                answer = int(unix.os.fork())
            except OSError as error:
                answer = error
            if answer == 0:
                with cells.leaving(cell):
                    link.close()
                    is_guarded = begin(cell.mark, pipe, here, {})
                    messages.write(kept[-1], [b"%d %d" % (os.getpid(), is_guarded)])
                    cells.become(cell)
                    cells.live(run, cell, kept[-1], before)
        for each in descriptors:
            os.close(each)
        with suppress(OSError):  # the run has gone, which is heard next
            messages.write(control, [pickle.dumps(answer)])
        cells.entitle(title)
        cells.reseed()  # for the next child, while this one runs


def begin(mark: str, pipe: int | None, parent: int, handlers: Mapping[int, Any]) -> bool:
    """Take leave of the parent, after a fork: its session, its guardian, its handlers of signals.

    Return whether the guardian knows of this process.
    """
    unix.os.setsid()
    is_guarded = False
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe, guardian.message(os.getpid(), mark))
            is_guarded = True
        os.close(pipe)
    if os.getppid() != parent:  # it died meanwhile, and so perhaps did the guardian
        os._exit(cells.UNTOLD)
    signal.set_wakeup_fd(-1)
    if process := sys.modules.get("multiprocessing.process"):
        process._children = set()  # type: ignore[attr-defined]  # as in multiprocessing's own forks
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return is_guarded


def reaped(pid: int) -> int | None:
    """The exit status of a child, negative for a signal; None while it lives."""
    try:
        found, status = os.waitpid(pid, unix.os.WNOHANG)
    except ChildProcessError:  # somebody else took it, or SIGCHLD is ignored: it is gone, and nobody knows how
        return cells.UNKNOWN
    return os.waitstatus_to_exitcode(status) if found else None
