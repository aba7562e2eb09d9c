"""Claims: names that one living process has taken, so that no two processes do the same work at once.

A claim is a lock on a file of its own. The system drops the lock when the last process that holds it ends, in whatever
way. Ages and process ids are never used. Knows names and locks, not what is claimed.
"""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from pyexp.store import files, unix

# The byte to lock where locks are mandatory: far beyond the content, which stays readable.
_BYTE = 1 << 30
# Windows' error for removing an open file.
_IN_USE = 32
#: Seconds that processes elsewhere have to end when their files are removed.
PATIENCE = 10.0
# Seconds between two tries to lock a file.
_LOOK = 0.01
# The descriptors of the claims of this process. Its forks close them: a pool's workers may outlive this process.
_held: set[int] = set()


class Claim(NamedTuple):
    """A claimed name. A child that is given the descriptor holds the claim too, where the system's locks allow it."""

    descriptor: int
    path: str

    def release(self) -> None:
        """Release the claim. Remove the file first: a process that locks it later sees this, and makes a new one."""
        in_use = False
        try:
            if _is_named(self.descriptor, self.path):
                os.unlink(self.path)
        except OSError as error:
            in_use = getattr(error, "winerror", None) == _IN_USE
        _close(self.descriptor)
        if in_use:  # by this descriptor: now it is closed. On such a system another process's claim is safe too
            with suppress(OSError):
                os.unlink(self.path)


def claim(folder: str, name: str) -> Claim | None:
    """A claim to the name, its file in this folder; None if another process has it. Raises OSError."""
    path = os.path.join(folder, name)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | files.PLAIN, 0o666)
        except FileNotFoundError:  # the folder does not exist yet, or another process has just tidied up
            os.makedirs(folder, exist_ok=True)
            continue
        _held.add(descriptor)
        with ExitStack() as undo:
            undo.callback(_close, descriptor)
            if not _locked(descriptor):
                return None
            if _is_named(descriptor, path):
                sign(descriptor, os.getpid())
                undo.pop_all()
                return Claim(descriptor, path)


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


@contextmanager
def inherited(descriptor: int | None) -> Iterator[None]:
    """A fork that is made meanwhile holds the claim with this descriptor too. Any other fork holds no claim."""
    lent = _held & {descriptor}
    _held.difference_update(lent)
    try:
        yield
    finally:
        _held.update(lent)


def _close_all() -> None:
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _locked(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting. True if it is locked now, or if the system has no locks."""
    try:
        if unix.fcntl is not None:
            unix.fcntl.flock(descriptor, (unix.fcntl.LOCK_SH if shared else unix.fcntl.LOCK_EX) | unix.fcntl.LOCK_NB)
        elif unix.msvcrt is not None:  # without shared locks, two processes that look may briefly see each other
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            unix.msvcrt.locking(descriptor, unix.msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # a file system without locks: use the run from one process at a time
        raise
    return True


def locks_work(folder: str) -> bool:
    """Whether locks work in this folder: a second lock on a file fails. True if that cannot be tested."""
    with suppress(OSError), ExitStack() as undo:
        for _ in range(2):
            held = claim(folder, f"{os.getpid()}.lock")
            if held is None:
                return True
            undo.callback(held.release)
        return False
    return True


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file still has this name: another process may have removed it when it released its claim.

    Then a file of this name is another process's claim.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def sign(descriptor: int, pid: int) -> None:
    """Write the holder into a claim's file, for people to read."""
    from socket import gethostname

    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, os.write(descriptor, f"process {pid} on {gethostname()}".encode()))


def holders(folder: str) -> dict[str, str]:
    """The claimed names in a folder, each with its holder in words. Changes nothing."""
    found = {}
    for name in _names(folder):
        try:
            # Opened for reading, as the folder may be read-only; locked shared, so that two processes may look at once.
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | files.PLAIN)
        except OSError:
            continue
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if not _locked(descriptor, shared=True):
                found[name] = "(another process)"
                with suppress(OSError):
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    found[name] = f"({os.read(descriptor, 200).decode('utf-8', 'replace')})"
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold a lock on a file meanwhile, waiting for others that hold it as long as the file is there.

    Do nothing if it is missing, or if the system could not remove it then (Windows).
    """
    with ExitStack() as undo:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | files.PLAIN) if unix.fcntl else -1
            if descriptor >= 0:
                _held.add(descriptor)
                undo.callback(_close, descriptor)
            while descriptor >= 0 and not _locked(descriptor) and _is_named(descriptor, path):
                time.sleep(_LOOK)
        yield


def end_holders(paths: Iterable[str], patience: float = PATIENCE) -> bool:
    """Remove files whose holders end then, and return whether these have ended within so many seconds.

    A missing file has no holder.
    """
    with ExitStack() as undo:
        left = []
        for path in paths:
            with suppress(OSError):
                if unix.fcntl:
                    left.append(os.open(path, os.O_RDWR | files.PLAIN))
                    undo.callback(os.close, left[-1])
            with suppress(OSError):
                os.unlink(path)
        deadline = time.monotonic() + patience
        for descriptor in left:
            with suppress(OSError):
                while not _locked(descriptor):
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(_LOOK)
        return True


def tidy(folder: str) -> None:
    """Remove the claims that dead processes left, and their folder if it is empty then."""
    for name in _names(folder):
        path = os.path.join(folder, name)
        with suppress(OSError), ExitStack() as undo:
            descriptor = os.open(path, os.O_RDWR | files.PLAIN)
            undo.callback(os.close, descriptor)
            if _locked(descriptor) and _is_named(descriptor, path):
                undo.pop_all()
                Claim(descriptor, path).release()
    with suppress(OSError):
        os.rmdir(folder)
