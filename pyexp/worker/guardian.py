"""What makes an end of a cell and of all that descends from it, also when this process is killed before it can.

Knows processes and how they are marked; nothing of cells' outcomes. It is also a program of its own, the guardian: one
small process for each run, which hears from the run's process what begins and ends, and cleans up if that one dies
(`docs/decisions/020-descendants.md`). It needs the standard library alone, since it is started without `site`.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

#: The environment variable that marks a cell's descendants, wherever they went.
VARIABLE = "PYEXP_CELL"
#: Seconds after which the guardian looks whether its parent lives, in case that somebody else holds its pipe open.
TICK = 1.0
#: Seconds that a resource tracker has to end by itself.
TRACKERS = 5.0
#: The signals that ask a process to stop; the last one is Windows' own, with which Ctrl-C is passed on there.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
#: What ends a process at once; on Windows, any number does.
KILL = getattr(signal, "SIGKILL", 9)
#: Where Linux tells of its processes; elsewhere psutil does.
PROC = "/proc"
#: A process may start others while it is looked for: so often it is looked again.
_ROUNDS = 100


def new_mark() -> str:
    """A mark that no other cell bears, as short as the name of a Linux process has to be."""
    return f"pyexp-{os.urandom(4).hex()}"


def end(leader: int, mark: str) -> None:
    """Kill a cell: its leader, the leader's group, and all that descends from it, until none of them is found.

    A resource tracker of multiprocessing or loky ends by itself, having removed shared memory that was left, once all
    that it serves have gone: it is given the time.
    """
    last = time.monotonic() + TRACKERS
    rounds = 0
    while rounds < _ROUNDS:
        found = family(leader, mark)  # before anything is killed: a child whose parent has gone is harder to find
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
    """Kill all that descends from this process, a cell's with that mark, but for its resource trackers."""
    for _ in range(_ROUNDS):
        found = [pid for pid in family(os.getpid(), mark) if not _tracks(pid)]
        for pid in found:
            kill(pid)
        if not found:
            return


def kill(pid: int) -> None:
    """Kill the process, if it is there."""
    with suppress(OSError):
        os.kill(pid, KILL)


def wear(mark: str) -> None:
    """Give this process the mark for a name (Linux): a fork's environment does not show it."""
    with suppress(OSError):
        name = os.open(f"{PROC}/self/comm", os.O_WRONLY)
        os.write(name, mark.encode())
        os.close(name)


class Facts(NamedTuple):
    """A living process: its name, and what it belongs to."""

    name: str
    parent: int
    group: int
    session: int


def family(leader: int, mark: str) -> set[int]:
    """The living processes that belong to a cell: of its session, group or mark, and what descends from any of them.

    A child that has left the session is found by its parent, as long as that lives, and one whose parent has gone by
    the mark: in the environment it was started with, or, where it is a bare fork, in its name.
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
    """The library that knows of processes where there is no /proc; None where there is, or no such library."""
    if os.path.isdir(f"{PROC}/self"):
        return None
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def facts_of(pid: int) -> Facts | None:
    """What is known of a living process; None for one that has ended."""
    content = _content(pid, "stat")
    if content is None:
        return _foreign_facts(pid)
    head, _, tail = content.rpartition(b")")  # a name may hold anything, also a bracket
    state, parent, group, session = tail.split()[:4]
    if state in (b"Z", b"X"):
        return None
    return Facts(head.partition(b"(")[2].decode("utf-8", "replace"), int(parent), int(group), int(session))


def has_gone(pid: int) -> bool:
    """Whether the process has ended, also if nobody has reaped it yet; False where that cannot be seen just now."""
    if _psutil():
        return facts_of(pid) is None
    try:
        os.stat(f"{PROC}/{pid}/stat")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return _content(pid, "stat") is not None and facts_of(pid) is None


def _foreign_facts(pid: int) -> Facts | None:
    """The facts where there is no /proc, as psutil knows them."""
    psutil = _psutil()
    if psutil is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        group = os.getpgid(pid) if hasattr(os, "getpgid") else 0
        session = os.getsid(pid) if hasattr(os, "getsid") else 0
        parent = process.parent()  # not by its id alone, which another process may have by now
        return Facts(process.name(), parent.pid if parent else 0, group, session)
    except (psutil.Error, OSError):
        return None


def _environment(pid: int) -> bytes:
    """The environment that a process was started with; `b""` where that is not for us to see."""
    content = _content(pid, "environ")
    if psutil := _psutil():
        with suppress(psutil.Error, OSError):
            return str(psutil.Process(pid).environ().get(VARIABLE, "")).encode()
    return content or b""


def _tracks(pid: int) -> bool:
    """Whether the process is a resource tracker of multiprocessing, or of loky, which has its own."""
    content = _content(pid, "cmdline")
    if psutil := _psutil():
        with suppress(psutil.Error, OSError):
            return any("resource_tracker" in word for word in psutil.Process(pid).cmdline())
    return b"resource_tracker" in (content or b"")


def _content(pid: int, name: str) -> bytes | None:
    try:
        with open(f"{PROC}/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # it has gone, is another user's, or there is no /proc
        return None


class Guardian:
    """The guardian process, as the run sees it: it hears of each cell, and is dismissed at the end of the run."""

    def __init__(self) -> None:
        self._cells: dict[int, str] = {}
        self._process = self._start()

    @property
    def pipe(self) -> int:
        """The descriptor that the guardian reads the other end of."""
        return int(self._process.stdin.fileno())

    def _start(self) -> Any:
        import subprocess

        # Nothing of this process is left to it: no descriptor, no terminal, no folder, and no mark of a cell around it.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), *_beside(_psutil())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=os.path.abspath(os.sep),
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
            **apart(),
        )

    def begins(self, leader: int, mark: str, *, is_known: bool = False) -> None:
        """A cell begins: its leader is there, and has no work yet, or has told the guardian of itself."""
        self._cells[leader] = mark
        if not is_known:
            self._tell(message(leader, mark))

    def ended(self, leader: int) -> None:
        """A cell has ended, and nothing is left of it; its leader is not reaped yet, so that the id is still its."""
        self._cells.pop(leader, None)
        self._tell(f"{leader}\n".encode())

    def _tell(self, words: bytes) -> None:
        try:
            os.write(self.pipe, words)
        except OSError:  # somebody killed it: another one takes over
            self.dismiss()
            self._process = self._start()
            for leader, mark in self._cells.items():
                os.write(self.pipe, message(leader, mark))

    def dismiss(self) -> None:
        """The run is over, and nothing is left to guard."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def message(leader: int, mark: str) -> bytes:
    """The message to the guardian that a cell begins; short enough for a pipe to take it whole."""
    return f"{leader} {mark}\n".encode()


def apart() -> dict[str, Any]:
    """How a child is started so that Ctrl-C at the terminal does not reach it."""
    import subprocess

    if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _beside(package: Any) -> list[str]:
    """The folder that a package is in; nothing for no package."""
    return [os.path.dirname(os.path.dirname(package.__file__))] if package else []


def main() -> None:
    """Listen until the run's process has gone, then end the cells it has left."""
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
    """What the run says next, `b""` if nothing for a while; None when its process has gone."""
    import select

    if hasattr(select, "poll"):  # elsewhere nobody but the run holds the pipe, and its end tells
        ready, _, _ = select.select([0], [], [], TICK)
        if not ready:
            return b"" if os.getppid() == parent else None
    return os.read(0, 1 << 16) or None


if __name__ == "__main__":
    sys.path += sys.argv[2:]  # where psutil is
    main()
