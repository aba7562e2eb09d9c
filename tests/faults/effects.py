"""What a process does to a folder, effect by effect; a process that dies at one of them; a disk that loses its power.

The code under test is the real one, on the real file system: the functions of `os` by which files are changed are
watched, not replaced.
"""

import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: An effect: its kind, and what it was done to, as far as a disk has to know.
Effect = tuple[Any, ...]


def in_child(do: Callable[[Callable[[Any], None]], None]) -> tuple[int, list[Any]]:
    """The wait status of a fork of this process that does `do(tell)`, and all that it told."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a test runner's threads
        pid = os.fork()
    if pid == 0:
        status = 70
        with suppress(BaseException):
            os.close(reader)
            with open(writer, "wb", buffering=0) as pipe:
                do(lambda told: pipe.write(pickle.dumps(told)) and None)
            status = 0
        os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = list(_pickles(pipe))
    return os.waitpid(pid, 0)[1], told


def _pickles(pipe: Any) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError):
            return


class Effects:
    """The effects of this process below `root`, each told after it was done; before effect `fatal` it is killed.

    With `torn`, a fatal write is half done. To be installed in a child, as it stays.
    """

    def __init__(
        self, root: Path, tell: Callable[[Effect], None], fatal: int | None = None, torn: bool = False
    ) -> None:
        self.root = str(root)
        self.tell = tell
        self.fatal = fatal
        self.torn = torn
        self.count = 0
        self.descriptors: set[int] = set()

    def install(self) -> None:
        """Watch the functions of `os`, from now on."""
        for name in ("write", "pwrite", "ftruncate", "fsync", "replace", "link", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        os.open, os.close = self._opening(os.open), self._closing(os.close)

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            if not self._inside(first):
                return real(first, *rest, **options)
            if name == "write" and self.torn and self.count == self.fatal:
                real(first, bytes(rest[0])[: len(rest[0]) // 2])
            self._live()
            inode = os.fstat(first).st_ino if isinstance(first, int) else None
            result = real(first, *rest, **options)
            if name == "write":
                self._told((name, inode, bytes(rest[0])[:result]))
            elif name == "mkdir":
                self._told((name, first, os.stat(first).st_ino))
            else:
                self._told((name, first if inode is None else inode, *rest))
            return result

        return call

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if not self._inside(path):
                return real(path, flags, *rest, **options)
            if flags & os.O_CREAT:
                self._live()
            new = not os.path.lexists(path)
            descriptor = real(path, flags, *rest, **options)
            self.descriptors.add(descriptor)
            if flags & os.O_CREAT:
                self._told(("create" if new else "open", path, os.fstat(descriptor).st_ino))
            return descriptor

        return call

    def _closing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            self.descriptors.discard(descriptor)
            real(descriptor)

        return call

    def _inside(self, place: Any) -> bool:
        return place in self.descriptors if isinstance(place, int) else os.fspath(place).startswith(self.root)

    def _live(self) -> None:
        """Go on, unless this is where the process dies."""
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _told(self, effect: Effect) -> None:
        self.count += 1
        self.tell(effect)


@dataclass
class Node:
    """A file or folder: what is in memory, and what is on the disk. Of a file never synced, nothing is."""

    content: Any
    synced: Any

    @property
    def is_folder(self) -> bool:
        return isinstance(self.content, dict)


class Disk:
    """A disk with a memory in front of it, on which the effects of a trace are replayed, and which can lose power.

    What is promised after a power cut is what POSIX promises: the content of a file that was synced, and the names in
    a folder that was synced, as they were then. Anything else may be there or not.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.nodes: dict[int, Node] = {}
        self.inode = self._taken_in(self.root)

    def _taken_in(self, path: str) -> int:
        """What stands at a path at the beginning, all of it synced."""
        inode = os.lstat(path).st_ino
        if os.path.isdir(path):
            names = {name: self._taken_in(os.path.join(path, name)) for name in os.listdir(path)}
            self.nodes[inode] = Node(names, dict(names))
        else:
            content = Path(path).read_bytes()
            self.nodes[inode] = Node(content, content)
        return inode

    def replay(self, effect: Effect) -> None:
        """Do to this disk what was done to the real one."""
        kind, *what = effect
        if kind == "write":
            self.nodes[what[0]].content += what[1]
        elif kind == "fsync":
            node = self.nodes[what[0]]
            node.synced = dict(node.content) if node.is_folder else node.content
        elif kind in ("create", "mkdir"):
            path, inode = what
            self.nodes[inode] = Node({}, {}) if kind == "mkdir" else Node(b"", None)
            self._folder(path)[os.path.basename(path)] = inode
        elif kind in ("unlink", "rmdir"):
            del self._folder(what[0])[os.path.basename(what[0])]
        elif kind == "replace":
            inode = self._folder(what[0]).pop(os.path.basename(what[0]))
            self._folder(what[1])[os.path.basename(what[1])] = inode
        elif kind == "link":
            self._folder(what[1])[os.path.basename(what[1])] = self._folder(what[0])[os.path.basename(what[0])]
        elif kind not in ("report", "open", "pwrite", "ftruncate"):  # a claim taken anew, and its words for people
            raise NotImplementedError(kind)

    def _folder(self, path: str) -> dict[str, int]:
        names = self.nodes[self.inode].content
        for part in Path(path).relative_to(self.root).parent.parts:
            names = self.nodes[names[part]].content
        return names  # type: ignore[no-any-return]

    def after_power_cut(self, target: Path, mercy: random.Random | None) -> None:
        """Put at `target` what is left: only what was synced, or with `mercy` any of what was not, as chance has it."""
        self._put(self.inode, target, mercy)

    def _put(self, inode: int, path: Path, mercy: random.Random | None) -> None:
        node = self.nodes[inode]
        if not node.is_folder:
            path.write_bytes(_left(node, mercy))
            return
        path.mkdir()
        for name in sorted({*node.content, *node.synced}):
            kept = [names[name] for names in (node.content, node.synced) if name in names]
            certain = node.content.get(name) == node.synced.get(name)
            if certain:
                self._put(kept[0], path / name, mercy)
            elif mercy is None:
                if name in node.synced:
                    self._put(node.synced[name], path / name, mercy)
            elif (chosen := mercy.choice([*kept, None] if len(kept) == 1 else kept)) is not None:
                self._put(chosen, path / name, mercy)


def _left(node: Node, mercy: random.Random | None) -> bytes:
    """What is left of a file: what was synced; of what was not, nothing, a part, zeros or all."""
    if node.content == node.synced or mercy is None:
        return node.synced or b""
    content: bytes = node.content
    choices = [node.synced or b"", content, content[: len(content) // 2], b"\0" * len(content)]
    return mercy.choice(choices)
