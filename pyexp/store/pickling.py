"""Values as pickles that another process can load, and back.

Leaves to `byvalue`, which needs cloudpickle, what a plain pickle cannot hold.
"""

import os
import pickle
from contextlib import suppress
from io import BytesIO
from typing import Any

from pyexp.store import files

#: The names of the script's module: in the process that was started with it, and in a worker that has loaded it.
MAIN = ("__main__", "__mp_main__")
# Common to both names.
_MAIN = b"_main__"


def save(path: str, value: Any, *, durable: bool, code: str = "") -> list[str]:
    """Commit `value` as the sealed pickle at `path`, and return what loading it needs, as `module:name`.

    `code` is the short identity of the code that made it.

    Load it once before the commit (unless it is plain data), so that a value that cannot be loaded is an error now.
    Raises what pickling, loading or writing raises; then nothing is at `path`.
    """
    payload, needs = packed(value)
    files.commit(path, payload, durable=durable, code=code)
    return needs


def packed(value: Any) -> tuple[bytes, list[str]]:
    """The value as a pickle that can be loaded again, and what loading it needs.

    Loads it to find out, unless it holds plain data only. Raises as `save` does. If loading raises, a note of the error
    names the part that cannot be loaded.
    """
    payload = dumps(value)
    try:
        return payload, _needed(payload)
    except (Exception, SystemExit) as error:
        from pyexp.store.byvalue import faulty_part  # needed only by a result that cannot be loaded

        part, path = faulty_part(value, "the result", lambda item: _needed(dumps(item)))
        error.add_note(f"{path} is a {_kind(part)}, which was pickled and cannot be loaded again")
        raise


def _needed(payload: bytes) -> list[str]:
    """What loading a pickle needs, as `module:name`."""
    # STACK_GLOBAL: without it, protocol 5 looks no name up
    return load_noting(payload)[1] if b"\x93" in payload else []


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def dumps(value: Any, what: str = "the result") -> bytes:
    """The value as a pickle. Classes and functions of the script's `__main__`, which other processes lack, go by value.

    Raises TypeError naming the part that cannot be pickled.
    """
    try:
        payload = pickle.dumps(value, protocol=5)
    except Exception:  # cloudpickle may be able to: a lambda, a class from inside a function
        payload = _MAIN
    if _MAIN not in payload:
        return payload
    from pyexp.store import byvalue  # imported only for what a plain pickle cannot hold

    try:
        return byvalue.dumps_by_value(value)
    except Exception as error:
        part, path = byvalue.faulty_part(value, what, byvalue.dumps_by_value)
        raise TypeError(f"{path} is a {_kind(part)}, which cannot be pickled: {error}") from error


class _Witness(pickle.Unpickler):
    """An unpickler that notes the classes and functions it looks up."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.needs: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module != "builtins":
            self.needs[f"{module}:{name}"] = None
        if module == "pyexp.byvalue":
            import pyexp.store.byvalue  # noqa: F401  # it registers itself under its former name
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):  # only Python 3.13 has pathlib._local
            from pyexp.store.modules import public

            with suppress(ImportError, AttributeError):
                return super().find_class(public(module), name)
            raise


def load_noting(content: bytes, size: int | None = None) -> tuple[Any, list[str]]:
    """The value of the pickle in the first `size` bytes (default: all), and what loading it needed.

    Raises `files.DamagedError` if the pickle ends elsewhere, and whatever loading raises.
    """
    size = len(content) if size is None else size
    stream = BytesIO(content)  # shares the bytes: a result may be large
    witness = _Witness(stream)
    value = witness.load()
    if stream.tell() != size:
        raise files.DamagedError(f"its pickle ends at byte {stream.tell()} and not at {size}")
    return value, list(witness.needs)


def is_whole(path: str) -> bool:
    """Whether a file seems to be one complete pickle. Does not load it."""
    import pickletools  # imported only for results of custom executors

    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            *_, (opcode, _, position) = pickletools.genops(file)
            return opcode.name == "STOP" and position == size - 1
    except (OSError, ValueError, UnicodeError, IndexError):
        return False
