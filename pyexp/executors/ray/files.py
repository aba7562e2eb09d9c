"""A cell's folder, brought home: packed where the cell ran, unpacked where the run is.

Knows names, parts and what may lie in a folder. Small files travel inside the answer; of large ones, only references
do, so that neither side ever holds more than a part of them.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from pyexp.errors import StoreError
from pyexp.store import files
from pyexp.store.layout import RESULT

#: Bytes of a part of a large file: enough that a part's own cost is small, little enough to hold several.
PART = 16 << 20
#: A file up to so many bytes travels inside the answer, as long as the answer is not larger than a part.
SMALL = 256 << 10


class Item(NamedTuple):
    """One thing in a folder: its name in it, with `/`, and its content as bytes, references or a target.

    What was sent to the node and is not there any more is `gone`.
    """

    name: str
    kind: Literal["file", "link", "folder", "gone"]
    parts: list[Any]


def pack(folder: str, put: Callable[[bytes], Any], had: Iterable[str] = ()) -> list[Item]:
    """What is in the folder. `put` keeps a part of a large file and returns a reference to it. Raises OSError.

    A link that stays inside is a relative link; of one that leads out, the file it leads to is taken. Sockets and pipes
    stay. `had` are the names of what was sent here.
    """
    room = PART
    items = []
    for name, path in _entries(folder):
        if os.path.islink(path) and (target := _inside(folder, name, os.readlink(path))):
            items.append(Item(name, "link", [target]))
        elif os.path.isdir(path) and not os.path.islink(path):
            items.append(Item(name, "folder", []))
        elif os.path.isfile(path):
            size = os.path.getsize(path)
            inline = size <= min(SMALL, room)
            room -= size if inline else 0
            with open(path, "rb") as file:
                parts = iter(lambda: file.read(PART), b"")
                items.append(Item(name, "file", [part if inline else put(part) for part in parts]))
    there = {name for name, _ in _entries(folder)}
    return items + [Item(name, "gone", []) for name in had if name not in there]


def _entries(folder: str) -> Iterator[tuple[str, str]]:
    """Everything below the folder, a folder before what is in it: its name from there, and its path."""
    for top, folders, names in os.walk(folder):
        for name in sorted(folders) + sorted(names):
            path = os.path.join(top, name)
            if not files.is_temporary(name):
                yield os.path.relpath(path, folder).replace(os.sep, "/"), path


def _inside(folder: str, name: str, target: str) -> str:
    """The target of a link of that name, as seen from there; `""` if it leads out of the folder.

    An absolute target is of this machine: elsewhere the folder has another path.
    """
    if os.path.isabs(target):
        above = os.path.dirname(os.path.join(folder, name))
        tops = [top for top in (folder, os.path.realpath(folder)) if f"{target}/".startswith(f"{top}/")]
        target = os.path.relpath(os.path.join(folder, os.path.relpath(target, tops[0])), above) if tops else target
    return target if _stays(name, target) else ""


def _stays(name: str, target: str) -> bool:
    """Whether a link of that name with that target leads to somewhere in its folder."""
    aim = os.path.normpath(os.path.join(os.path.dirname(name), target))
    return not os.path.isabs(aim) and aim.split(os.sep)[0] != os.pardir


def unpack(folder: str, items: Iterable[Item], get: Callable[[Any], bytes], *, durable: bool) -> None:
    """Write the items into the folder, the result last: its appearance commits the cell. `get` fetches a part.

    Raises `StoreError` for a name that leaves the folder, and OSError.
    """
    for item in sorted(items, key=lambda item: (item.kind != "gone", item.name == RESULT)):
        if item.kind == "gone":
            _remove(folder, item.name)
            continue
        path = _place(folder, item.name)
        if item.kind != "folder":
            _remove_folder(path)
        if item.kind == "folder":
            _make_folder(path)
        elif item.kind == "link":
            _link(path, item)
        else:
            parts = (part if isinstance(part, bytes) else get(part) for part in item.parts)
            files.write(path, parts, durable=durable and item.name == RESULT)


def _place(folder: str, name: str) -> str:
    """Where an item of that name goes, its folder made ready. Raises `StoreError` if that is outside."""
    *above, path = _paths(folder, name)
    for each in above:
        _make_folder(each)
    return path


def _paths(folder: str, name: str) -> list[str]:
    """The paths of the folders that a name goes through, and its own. Raises `StoreError` if that is outside."""
    parts = PurePosixPath(name).parts
    if not parts or "/" in parts or ".." in parts or "\0" in name or os.path.isabs(name):
        raise StoreError(f"a file named {name!r} came from the node; it would lie outside of {folder}")
    return [os.path.join(folder, *parts[: depth + 1]) for depth in range(len(parts))]


def _remove(folder: str, name: str) -> None:
    """Remove what has that name, but nothing that a link leads to."""
    *above, path = _paths(folder, name)
    if not any(map(os.path.islink, above)):
        _remove_folder(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)


def _remove_folder(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)


def _make_folder(path: str) -> None:
    """Make it a folder, whatever stood there: a link is replaced, not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.makedirs(path)


def _link(path: str, item: Item) -> None:
    (target,) = item.parts
    if not _stays(item.name, target):
        raise StoreError(f"a link {item.name!r} to {target!r} came from the node; it leads out of the cell's folder")
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)
