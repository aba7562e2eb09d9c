"""What makes an end of a cell and of all that descends from it, also when this process is killed before it can.

Knows processes and how they are marked; nothing of cells' outcomes. It is also a program of its own, the guardian: one
small process for each run, which hears from the run's process what begins and ends, and cleans up if that one dies
(`docs/decisions/020-descendants.md`). It needs the standard library alone, since it is started without `site`.
"""

import os
import signal
import sys
from contextlib import suppress

#: The environment variable by which a cell's descendants are known, wherever they went.
VARIABLE = "PYEXP_CELL"
#: Seconds after which the guardian looks whether its parent lives, in case that somebody else holds its pipe open.
TICK = 1.0
#: A process may start others while it is looked for: so often it is looked again.
_ROUNDS = 100


def new_mark() -> str:
    """A mark that no other cell bears, as short as the name of a Linux process has to be."""
    return f"pyexp-{os.urandom(4).hex()}"


def end(leader: int, mark: str) -> None:
    """Kill a cell: its leader, the leader's group, and all that descends from it, until none of them is found.

    Without /proc (macOS) it is the group alone.
    """
    for _ in range(_ROUNDS):
        found = family(leader, mark)  # before anything is killed: a child whose parent has gone is harder to find
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for kill in (os.killpg, os.kill):  # a child that was forked just now does not lead a group yet
            with suppress(OSError):
                kill(leader, signal.SIGKILL)
        if not found:
            return


def family(leader: int, mark: str) -> set[int]:
    """The living processes that belong to a cell: of its session, group or mark, and what descends from any of them.

    A child that has left the session is found by its parent, as long as that lives, and one whose parent has gone by
    the mark: in the environment it was started with, or, where it is a bare fork, in its name.
    """
    parents: dict[int, int] = {}
    found = set()
    for pid in _processes():
        if (facts := _facts(pid)) is None:
            continue
        name, parent, group, session = facts
        parents[pid] = parent
        if leader in (pid, group, session) or name == mark or _bears(pid, mark):
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found - {os.getpid()}


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:  # not Linux
        return []


def _facts(pid: int) -> tuple[str, int, int, int] | None:
    """The name, parent, group and session of a living process; None for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")  # a name may hold anything, also a bracket
    except OSError:
        return None
    state, parent, group, session = tail.split()[:4]
    if state in (b"Z", b"X"):
        return None
    return head.partition(b"(")[2].decode("utf-8", "replace"), int(parent), int(group), int(session)


def _bears(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark.encode() in file.read()
    except OSError:  # another user's, or gone
        return False


class Guardian:
    """The guardian process, seen from the run's: it is told of each cell, and dismissed at the end of the run."""

    def __init__(self) -> None:
        self._cells: dict[int, str] = {}
        self._start()

    def _start(self) -> None:
        import subprocess

        # Nothing of this process is left to it: no descriptor, no terminal, no folder, and no mark of a cell around it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self.pipe = self._process.stdin.fileno()

    def begins(self, leader: int, mark: str) -> None:
        """A cell begins: its leader is there, and has not been told yet what to do."""
        self._cells[leader] = mark
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
            self._start()
            for leader, mark in self._cells.items():
                os.write(self.pipe, message(leader, mark))

    def dismiss(self) -> None:
        """The run is over, and nothing is left to guard."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def message(leader: int, mark: str) -> bytes:
    """What the guardian is told when a cell begins; short enough for a pipe to take it whole."""
    return f"{leader} {mark}\n".encode()


def main() -> None:
    """Listen until the run's process has gone, then end the cells it has left."""
    import select

    parent = int(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cells: dict[str, str] = {}
    heard = b""
    while True:
        ready, _, _ = select.select([0], [], [], TICK)
        part = os.read(0, 1 << 16) if ready else b""
        *lines, heard = (heard + part).split(b"\n")
        for line in lines:
            leader, _, mark = line.decode().partition(" ")
            if mark:
                cells[leader] = mark
            else:
                cells.pop(leader, None)
        if (ready and not part) or (not ready and os.getppid() != parent):
            break
    for leader, mark in cells.items():
        end(int(leader), mark)


if __name__ == "__main__":
    main()
