"""Kills a cell with all its descendants, even if this process is killed before it can.

Run as a program, it is the guardian: one small process for each run. The run tells it which cells begin and end, and if
the run dies, the guardian kills the cells that are left (`docs/decisions/020-descendants.md`). It imports only the
standard library, since it is started without `site`. Knows processes and their marks, not outcomes.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

#: The environment variable that marks a cell's descendants.
VARIABLE = "PYEXP_CELL"
#: Seconds between two checks of the guardian that its parent lives, in case another process holds its pipe open.
TICK = 1.0
#: Seconds for a resource tracker to end by itself.
TRACKERS = 5.0
#: The signals that ask a process to stop. The last one is Windows' own: it passes Ctrl-C on there.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
#: The signal that ends a process at once; on Windows, any number does.
KILL = getattr(signal, "SIGKILL", 9)
#: Where Linux lists its processes. On other systems, psutil lists them.
PROC = "/proc"
#: The number of searches for descendants: a process may start others during one.
_ROUNDS = 100


def new_mark() -> str:
    """A new, unique mark, short enough for the name of a Linux process."""
    return f"pyexp-{os.urandom(4).hex()}"


def end(leader: int, mark: str) -> None:
    """Kill a cell: its leader, the leader's group and all descendants, until none is left.

    Give a resource tracker of multiprocessing or loky time to end by itself: when the processes that it serves have
    ended, it removes shared memory that they left.
    """
    last = time.monotonic() + TRACKERS
    rounds = 0
    while rounds < _ROUNDS:
        found = family(leader, mark)  # before killing: a child is harder to find once its parent has ended
        spared = set(filter(_tracks, found)) if time.monotonic() < last else set()
        for pid in found - spared:
            kill(pid)
        kill(leader)  # also a child that was forked just now
        if not spared and hasattr(os, "killpg"):
            with suppress(OSError):
                os.killpg(leader, KILL)
        if not found:
            return
        if found == spared:
            time.sleep(0.005)
        else:
            rounds += 1


def end_descendants(mark: str) -> None:
    """Kill all descendants of this process, which is the cell with this mark, except its resource trackers."""
    for _ in range(_ROUNDS):
        found = [pid for pid in family(os.getpid(), mark) if not _tracks(pid)]
        for pid in found:
            kill(pid)
        if not found:
            return


def kill(pid: int) -> None:
    """Kill the process, if it exists."""
    with suppress(OSError):
        os.kill(pid, KILL)


def wear(mark: str) -> None:
    """Make the mark the name of this process (Linux): the mark is not in the environment of a fork."""
    with suppress(OSError):
        name = os.open(f"{PROC}/self/comm", os.O_WRONLY)
        os.write(name, mark.encode())
        os.close(name)


class ProcessFacts(NamedTuple):
    """A living process: its name, parent, group and session."""

    name: str
    parent: int
    group: int
    session: int


def family(leader: int, mark: str) -> set[int]:
    """The living processes of a cell: those of its session, group or mark, and their descendants.

    A child that has left the session is found by its parent, while that lives. If the parent has ended, it is found by
    the mark: in its environment or, for a bare fork, in its name.
    """
    parents: dict[int, int] = {}
    found = set()
    for pid in _processes():
        if (facts := facts_of(pid)) is None:
            continue
        parents[pid] = facts.parent
        if leader in (pid, facts.group, facts.session) or facts.name == mark or mark.encode() in _environment(pid):
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found - {os.getpid()}


def _processes() -> list[int]:
    if psutil := _psutil():
        return psutil.pids()  # type: ignore[no-any-return]
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdecimal()]
    except OSError:
        return []


@cache
def _psutil() -> Any:
    """psutil, on systems without /proc; None with /proc, or if psutil is not installed."""
    if os.path.isdir(f"{PROC}/self"):
        return None
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def facts_of(pid: int) -> ProcessFacts | None:
    """The facts about a living process; None if it has ended."""
    content = _content(pid, "stat")
    if content is None:
        return _foreign_facts(pid)
    head, _, tail = content.rpartition(b")")  # a name may hold anything, also a bracket
    state, parent, group, session = tail.split()[:4]
    if state in (b"Z", b"X"):
        return None
    return ProcessFacts(head.partition(b"(")[2].decode("utf-8", "replace"), int(parent), int(group), int(session))


def has_gone(pid: int) -> bool:
    """Whether the process has ended, even if it is not reaped yet; False if that cannot be known."""
    if _psutil():
        return facts_of(pid) is None
    try:
        os.stat(f"{PROC}/{pid}/stat")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return _content(pid, "stat") is not None and facts_of(pid) is None


def _foreign_facts(pid: int) -> ProcessFacts | None:
    """The facts from psutil, on systems without /proc."""
    psutil = _psutil()
    if psutil is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        group = os.getpgid(pid) if hasattr(os, "getpgid") else 0
        session = os.getsid(pid) if hasattr(os, "getsid") else 0
        parent = process.parent()  # not by its id alone, which may belong to a newer process
        return ProcessFacts(process.name(), parent.pid if parent else 0, group, session)
    except (psutil.Error, OSError):
        return None


def _environment(pid: int) -> bytes:
    """The environment that a process was started with; `b""` if it cannot be read."""
    if psutil := _psutil():
        with suppress(psutil.Error, OSError):
            return str(psutil.Process(pid).environ().get(VARIABLE, "")).encode()
    return _content(pid, "environ") or b""


def _tracks(pid: int) -> bool:
    """Whether the process is a resource tracker of multiprocessing or loky, or may be one.

    For an instant, a process that begins a program has no command line.
    """
    command = _content(pid, "cmdline")
    if psutil := _psutil():
        with suppress(psutil.Error, OSError):
            command = " ".join(psutil.Process(pid).cmdline()).encode(errors="replace")
    return command is not None and (not command or b"resource_tracker" in command)


def _content(pid: int, name: str) -> bytes | None:
    try:
        with open(f"{PROC}/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # it has ended or is another user's, or this system has no /proc
        return None


class Guardian:
    """The run's handle on its guardian process: tell it of each cell, and dismiss it at the end of the run."""

    def __init__(self) -> None:
        self._cells: dict[int, str] = {}
        self._process = self._start()

    @property
    def pipe(self) -> int:
        """The descriptor to write to the guardian."""
        return int(self._process.stdin.fileno())

    def _start(self) -> Any:
        import subprocess

        psutil = _psutil()
        beside = [os.path.dirname(os.path.dirname(psutil.__file__))] if psutil else []
        # It inherits nothing of this process: no descriptor, terminal or folder, and no mark of a cell that runs this.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), *beside],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=os.path.abspath(os.sep),
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
            **apart(),
        )

    def begins(self, leader: int, mark: str, *, is_known: bool = False) -> None:
        """A cell begins: its leader exists. Tell the guardian, unless it `is_known` there already."""
        self._cells[leader] = mark
        if not is_known:
            self._tell(message(leader, mark))

    def ended(self, leader: int) -> None:
        """A cell and its descendants have ended. Call this before reaping the leader, while the id is still its own."""
        self._cells.pop(leader, None)
        self._tell(f"{leader}\n".encode())

    def _tell(self, words: bytes) -> None:
        try:
            os.write(self.pipe, words)
        except OSError:  # the guardian was killed: start another one
            self.dismiss()
            self._process = self._start()
            for leader, mark in self._cells.items():
                os.write(self.pipe, message(leader, mark))

    def dismiss(self) -> None:
        """Kill the guardian: the run has ended and no cell is left."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def message(leader: int, mark: str) -> bytes:
    """The message to the guardian that a cell begins, short enough for an atomic write to a pipe."""
    return f"{leader} {mark}\n".encode()


def apart() -> dict[str, Any]:
    """The options that start a child so that Ctrl-C at the terminal does not reach it."""
    import subprocess

    if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def main() -> None:
    """Listen until the run's process has ended, then kill the cells that are left."""
    parent = int(sys.argv[1])
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    cells: dict[str, str] = {}
    heard = b""
    while (part := _heard(parent)) is not None:
        *lines, heard = (heard + part).split(b"\n")
        for line in lines:
            leader, _, mark = line.decode().partition(" ")
            if mark:
                cells[leader] = mark
            else:
                cells.pop(leader, None)
    for leader, mark in cells.items():
        end(int(leader), mark)


def _heard(parent: int) -> bytes | None:
    """The next words of the run, `b""` if none came for a while; None when its process has ended."""
    import select

    if hasattr(select, "poll"):  # on Windows only the run holds the pipe, which closes when it ends
        ready, _, _ = select.select([0], [], [], TICK)
        if not ready:
            return b"" if os.getppid() == parent else None
    return os.read(0, 1 << 16) or None


if __name__ == "__main__":
    sys.path += sys.argv[2:]  # where psutil is
    main()
