"""Pickles that carry the script's own classes and functions with them, for what a plain pickle cannot.

A class of the script's `__main__` is written twice over: by its name, and by value. Where the same script loads it, it
is the script's class again, and `isinstance` holds; elsewhere, it is made from what was written.
"""

import pickle
import sys
from io import BytesIO
from typing import Any

import cloudpickle


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Cloudpickle, but for classes of `__main__`, which look for their namesake first when they are loaded."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and obj.__module__ == "__main__" and "<" not in obj.__qualname__:
            return class_of_main, (obj.__qualname__, cloudpickle.dumps(obj, protocol=5))
        return super().reducer_override(obj)


def dumps_by_value(value: Any) -> bytes:
    """The value as a pickle that another process can load without the script. Raises what pickling raises."""
    stream = BytesIO()
    _Pickler(stream, protocol=5).dump(value)
    return stream.getvalue()


def class_of_main(qualname: str, by_value: bytes) -> Any:
    """The class of that name in this process's `__main__`, or else the one that was written by value."""
    found: Any = sys.modules.get("__main__")
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and found.__module__ == "__main__" else pickle.loads(by_value)


def unpicklable_part(value: Any, path: str) -> tuple[Any, str]:
    """The innermost part of a value that cannot be pickled, and where it is."""
    if isinstance(value, dict):
        inside = [(item, f"{path}[{key!r}]") for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = [(item, f"{path}[{i}]") for i, item in enumerate(value)]
    else:
        inside = [(item, f"{path}.{key}") for key, item in getattr(value, "__dict__", {}).items()]
    for item, where in inside:
        if not _picklable(item):
            return unpicklable_part(item, where)
    return value, path


def _picklable(value: Any) -> bool:
    try:
        dumps_by_value(value)
    except Exception:  # whatever it raises, it cannot be pickled
        return False
    return True
