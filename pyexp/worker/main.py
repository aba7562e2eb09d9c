"""The main program of a fresh interpreter: get ready, then run one cell, or serve: fork a child for each cell.

It reads messages from descriptor 0 and answers on 1. Descriptor 2 is the cell's log, or a file for output before the
first cell.

Getting ready is the same in both cases: set the import path, load the script, set the globals that it changed since,
call the initializer.
"""

import gc
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pyexp.store import unix
from pyexp.worker import cell as cells
from pyexp.worker import guardian, messages, script
from pyexp.worker.messages import Assignment, Fork, Kit, Lack, Reap, Rest

#: Device files of accelerators. A process that has one open must not be forked. CUDA opens nvidia-uvm; a process that
#: has only counted the GPUs, by NVML, has nvidiactl and nvidia0 open, and may be forked.
_DEVICES = ("/dev/nvidia-uvm", "/dev/kfd", "/dev/dri", "/dev/dxg")


def main() -> None:
    """Get ready, and run the cell or serve. Never return."""
    control, status = map(cells.out_of_the_way, (0, 1))
    os.dup2(2, 1)
    cells.fresh_streams()
    if hasattr(signal, "SIGBREAK"):  # on Windows it replaces Ctrl-C, which cannot be sent to one process
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    try:
        read = partial(messages.read, partial(os.read, control))
        kit: Kit = pickle.loads(read())
        if kit.guardian is not None:  # a program that the script starts must not keep it open
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
        cell: Assignment = pickle.loads(read())
    except (EOFError, OSError):  # the parent has no cell for this process, or has ended
        os._exit(cells.UNTOLD)
    os.close(control)
    with cells.leaving(cell):
        cells.become(cell)
        if kit.answers:
            written = _written()
            os.ftruncate(2, 0)  # the parent appends what is in it at the end to the log
            os.lseek(2, 0, os.SEEK_SET)
            cells.take_log(cell.log_path, written)
        if not kit.serves:
            call = _ready(kit, lack, fault, rest)
        cells.reseed()
        cells.live(_calling(call, cell, lambda: None), cell, status)


@contextmanager
def _asking_nvml() -> Iterator[None]:
    """Make PyTorch look for a GPU without CUDA, which would make this process unfit for forking."""
    variable = "PYTORCH_NVML_BASED_CUDA_CHECK"
    is_ours = variable not in os.environ
    os.environ.setdefault(variable, "1")
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop(variable, None)


def _written() -> bytes:
    """The output of this process before it had a log."""
    with open(2, "rb", closefd=False) as early:
        early.seek(0)
        return early.read()


def _calling(call: Callable[[Any], Any], cell: Assignment, take_over: Callable[[], Any]) -> Callable[[], Any]:
    """A function that runs the cell: call `take_over`, then `call` with the cell's config."""
    out = Path(cell.result_path).parent

    def run() -> Any:
        take_over()
        config = pickle.loads(cell.config)
        config["out"] = out
        return call(config)

    return run


def _load(kit: Kit) -> tuple[Lack, BaseException | None]:
    """Load the script. Return what this worker lacks then, and the exception that the script raised."""
    sys.path[:] = kit.path
    sys.argv[:] = kit.argv
    import pyexp.results  # noqa: F401  # every cell needs it: load it before a server forks

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
    from pyexp.worker import naming  # imported only for a script with globals

    return naming.lacking(kit.asked, script.main_namespace()), None


def _ready(kit: Kit, lack: Lack, fault: BaseException | None, rest: bytes) -> Callable[[Any], Any]:
    """The experiment's function. If getting ready failed, return a function that raises the reason for each cell."""
    try:
        if fault is not None:
            raise fault
        values, fn, initializer = Rest(*pickle.loads(rest))
        # Set only the globals that this worker lacks: the script may refer to the others.
        lacking = lack.names(kit.asked)
        for key in [each for each in values if each in lacking]:
            place, name = script.place_of(key, script.main_namespace())
            if place is not None:
                place[name] = values[key]
        if initializer is not None:
            initializer()
        return fn
    except BaseException as error:
        why = error

    def refuse(_config: Any) -> Any:
        raise why

    return refuse


def unfit() -> str:
    """The reason why this process must not be forked for cells; `""` if it may be.

    A fork has only the thread that forked: locks that other threads held stay locked, and a pool of threads is lost
    without knowing it. Some pools (OpenBLAS) end themselves at a fork, so fork once before counting threads.
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
    """The number of threads of this process, native ones included, after forking a child that ends at once (Linux)."""
    pid = unix.os.fork()
    if pid == 0:
        os._exit(0)
    with suppress(ChildProcessError):  # SIGCHLD is ignored
        os.waitpid(pid, 0)
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


class _Server(NamedTuple):
    """A process that has loaded the script, as its children need to know it.

    `pipe` leads to the guardian. `written` is what it wrote before its first cell, `mask` its mask of signals before it
    became a server, and `before` what a cell must not end. `reads` are the files that its script has open for reading.
    """

    call: Callable[[Any], Any]
    pid: int
    pipe: int | None
    written: bytes
    mask: Any
    before: cells.Before
    reads: Sequence[int]


def _serve(control: int, pipe: int | None, call: Callable[[Any], Any]) -> NoReturn:
    """Fork a child at each request, before its cell is known, until the run hangs up; then end as Python does."""
    import socket  # imported only by a server

    requests = socket.socket(fileno=control)
    written = _written()
    # Block signals: the run says when to stop, and a child gets ready before it receives one.
    mask = unix.signal.pthread_sigmask(unix.signal.SIG_BLOCK, guardian.STOPPING)
    opened, reads = cells.open_files(), cells.files_being_read()
    gc.collect()
    server = _Server(call, os.getpid(), pipe, written, mask, cells.note_what_exists(opened), reads)
    cells.titles()  # loaded here once, and not in each child
    while True:
        cells.reseed()  # each child inherits other seeds
        try:
            message, descriptors = messages.receive(requests)
        except (EOFError, OSError):  # the run has hung up
            cells.end_server(server.before)
        asked: Fork | Reap = pickle.loads(message)
        if isinstance(asked, Reap):
            with suppress(OSError):  # the run has ended, which the next read notices
                messages.write(control, [pickle.dumps(reaped(asked.pid))])
            continue
        for pid in asked.done:
            reaped(pid)
        kept = [cells.out_of_the_way(each) for each in descriptors]
        for each in descriptors:
            os.close(each)
        if len(kept) == 2:  # otherwise this process has too many open, and the run sees that its pipe is closed
            status, link = kept
            forked = None
            try:
                forked = unix.os.fork()
            except OSError as error:
                messages.write(status, [pickle.dumps(error)])
            if forked == 0:
                requests.close()
                _wait_for_cell(server, asked.mark, status, link)
        for each in kept:
            os.close(each)


def _wait_for_cell(server: _Server, mark: str, status: int, link: int) -> NoReturn:
    """The life of a child: get ready, receive a cell, run it. It ends here if the run has no cell for it."""
    import socket

    try:
        is_guarded, fault = False, None
        try:
            is_guarded = separate(mark, server.pipe, server.pid, {})
            cells.reopen(server.reads)
        except Exception as error:  # told in the cell's log, when there is one
            fault = error
        messages.write(status, [pickle.dumps((os.getpid(), is_guarded))])
        with socket.socket(fileno=link) as source:
            message, descriptors = messages.receive(source)
        cell: Assignment = pickle.loads(message)
        with cells.leaving(cell):
            if fault is not None:
                raise fault
            if cell.claimed:  # this process holds the claim for as long as it lives
                cells.out_of_the_way(descriptors[0])
                os.close(descriptors[0])
            cells.become(cell)

            def take_over() -> None:
                cells.take_log(cell.log_path, server.written)
                unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, server.mask)

            cells.live(_calling(server.call, cell, take_over), cell, status, server.before)
    finally:
        os._exit(cells.UNTOLD)


def separate(mark: str, pipe: int | None, parent: int, handlers: Mapping[int, Any]) -> bool:
    """Separate a fork from its parent: give it a session, tell the guardian of it, set its signal handlers.

    Return whether the guardian knows this process.
    """
    unix.os.setsid()
    is_guarded = False
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe, guardian.message(os.getpid(), mark))
            is_guarded = True
        os.close(pipe)
    if os.getppid() != parent:  # the parent has died meanwhile, and perhaps the guardian too
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
    except ChildProcessError:  # it was reaped elsewhere, or SIGCHLD is ignored: its status is lost
        return cells.UNKNOWN
    return os.waitstatus_to_exitcode(status) if found else None
