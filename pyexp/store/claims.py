"""Claims: names that one living process has taken, so that no two do the same work at once.

A claim is a lock on a file of its own. The system drops it when the last process that holds it is gone, whatever it
died of; nothing here looks at ages or process ids. Knows names and locks, not what is claimed.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any, NamedTuple

# A claim's file itself, not where a symlink leads; nobody waits at a pipe that somebody has put there. Its bytes as
# they are. Each word is known to some systems only.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _module(name: str) -> Any:
    """The module; None where this system has none of that name."""
    try:
        return import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")

# The byte that is locked where locks are mandatory: far beyond the content, which stays readable.
_BYTE = 1 << 30
# Windows' word for a file that cannot be removed because it is open.
_IN_USE = 32


class Claim(NamedTuple):
    """A name taken. A child that inherits the descriptor holds it too, except where locks are a process's own."""

    descriptor: int
    path: str

    def release(self) -> None:
        """Give the name back. The file goes first: whoever locks it after that finds it gone, and takes a new one."""
        in_use = False
        try:
            if self.is_named:
                os.unlink(self.path)
        except OSError as error:
            in_use = getattr(error, "winerror", None) == _IN_USE
        os.close(self.descriptor)
        if in_use:  # by this descriptor; where that hinders the removal, another process' claim is as safe
            with suppress(OSError):
                os.unlink(self.path)

    @property
    def is_named(self) -> bool:
        """Whether the file still bears the name. If somebody has removed it, what is there now is another's claim."""
        return _is_named(self.descriptor, self.path)


def claim(folder: str, name: str) -> Claim | None:
    """A claim to the name, its file in this folder; None if another process has it. Raises OSError."""
    path = os.path.join(folder, name)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o666)
        except FileNotFoundError:  # nobody has claimed anything yet, or somebody has just tidied up
            os.makedirs(folder, exist_ok=True)
            continue
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if not _locked(descriptor):
                return None
            if _is_named(descriptor, path):
                sign(descriptor, os.getpid())
                undo.pop_all()
                return Claim(descriptor, path)


def _locked(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock on an open file without waiting; True if that could be done, or the system has no locks."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, (_fcntl.LOCK_SH if shared else _fcntl.LOCK_EX) | _fcntl.LOCK_NB)
        elif _msvcrt is not None:  # it shares none: two that look may see each other, for the moment they look
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # a file system without locks: a run folder there is for one process at a time
        raise
    return True


def locks_work(folder: str) -> bool:
    """Whether a lock that is held is seen by others in this folder. Where files cannot be made, nobody knows: True."""
    path = os.path.join(folder, f"{os.getpid()}.lock")
    with suppress(OSError), ExitStack() as undo:
        os.makedirs(folder, exist_ok=True)
        descriptors = []
        for _ in range(2):
            descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o666))
            undo.callback(os.close, descriptors[-1])
        undo.callback(_forget, path)
        return _locked(descriptors[0]) and not _locked(descriptors[1])
    return True


def _forget(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file still bears the name: another process may have taken it away with its own claim."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def sign(descriptor: int, pid: int) -> None:
    """Write into a claim's file which process has it, for people to read."""
    from socket import gethostname

    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, os.write(descriptor, f"process {pid} on {gethostname()}".encode()))


def holders(folder: str) -> dict[str, str]:
    """The names claimed in a folder, and for each who has it, in words. Changes nothing."""
    return {name: words for name in _names(folder) if (words := _holder(os.path.join(folder, name))) is not None}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _holder(path: str) -> str | None:
    """Who holds a claim's file; None if nobody does."""
    try:
        # For reading, as the folder may be read-only; shared, so that two that look do not see each other.
        descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    except OSError:
        return None
    try:
        if _locked(descriptor, shared=True):
            return None
        with suppress(OSError):
            os.lseek(descriptor, 0, os.SEEK_SET)
            return f"({os.read(descriptor, 200).decode('utf-8', 'replace')})"
        return "(another process)"
    finally:
        os.close(descriptor)


def tidy(folder: str) -> None:
    """Remove the claims that dead processes left, and their folder if nothing is left in it."""
    for name in _names(folder):
        for abandoned in _taken(os.path.join(folder, name)):
            abandoned.release()
    with suppress(OSError):
        os.rmdir(folder)


def _taken(path: str) -> Iterator[Claim]:
    """A claim to an existing file, if nobody else has it."""
    with suppress(OSError), ExitStack() as undo:
        descriptor = os.open(path, os.O_RDWR | _PLAIN)
        undo.callback(os.close, descriptor)
        if _locked(descriptor) and _is_named(descriptor, path):
            undo.pop_all()
            yield Claim(descriptor, path)
