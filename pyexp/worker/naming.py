"""What a run sends of its script to a worker: by name what the worker loads too, by value what has changed since.

Both sides use it. The parent surveys what the experiment uses of the script, with digests. A worker compares them with
what it has loaded, and answers with what it lacks. Equal objects are not sent: sentinels, defaults and singletons keep
their identity, and a large table at the top of the script costs nothing.
"""

import functools
import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from io import BytesIO
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

from pyexp.errors import ConfigError
from pyexp.store.byvalue import Pickler
from pyexp.store.modules import is_project
from pyexp.store.pickling import MAIN
from pyexp.worker import script
from pyexp.worker.messages import Kit, Lack, Rest
from pyexp.worker.script import LAYERS, Survey, is_namespace, lookup, main_namespace, names_in, of_main, place_of


def path_in(namespace: Mapping[str, Any], thing: Any) -> str | None:
    """The dotted path of a function, class or wrapper in the script; `train.__wrapped__` for a decorated function."""
    if not isinstance(thing, (FunctionType, type)) and "__wrapped__" not in getattr(thing, "__dict__", ()):
        return None
    if getattr(thing, "__module__", None) not in MAIN:
        return None
    path: str = getattr(thing, "__qualname__", "") or getattr(thing, "__name__", "")
    try:
        found = lookup(namespace, path)
        for _ in range(LAYERS):
            if found is thing:
                return path
            path, found = f"{path}.__wrapped__", found.__wrapped__
    except (LookupError, AttributeError, TypeError):
        pass
    return None


class Shipper(Pickler):
    """Pickles for a worker that has loaded the script: by name what the worker has, by value the rest.

    `without` are the paths that the worker lacks. If it loads the script (`is_loaded`), a function that goes by value
    uses the worker's globals.
    """

    def __init__(
        self, stream: Any, namespace: Mapping[str, Any], *, is_loaded: bool, without: Collection[str] = (), **more: Any
    ) -> None:
        super().__init__(stream, protocol=5, **more)
        self._namespace = namespace
        self._is_loaded = is_loaded
        self._without = without
        self.by_name: dict[str, Any] = {}
        self.by_value: list[FunctionType] = []

    def reducer_override(self, obj: Any) -> Any:
        path = path_in(self._namespace, obj) if self._is_loaded else None
        # A worker that lacks a class lacks its methods.
        if path is not None and not any(f"{path}.".startswith(f"{lost}.") for lost in self._without):
            self.by_name[path] = obj
            return of_main, (path,)
        reduced = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and obj.__globals__ is self._namespace and isinstance(reduced, tuple):
            self.by_value.append(obj)
            make, (code, _, *rest), (own, slots), *more = reduced
            if self._is_loaded:
                slots = {**slots, "__globals__": {}}
            return (make, (code, _MAIN_NAMESPACE, *rest), (own, slots), *more)
        return reduced


class _MainNamespace:
    """Placeholder for the globals of the worker's own `__main__`."""

    def __reduce__(self) -> Any:
        return main_namespace, ()


_MAIN_NAMESPACE = _MainNamespace()


class _Digest(Shipper):
    """Digests a pickle without storing it. Equal for two objects that were loaded from the same source."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._content, self._buffers = hashlib.sha256(), hashlib.sha256()
        stream = SimpleNamespace(write=self._content.update)
        buffers = self._buffers.update
        super().__init__(stream, namespace, is_loaded=True, buffer_callback=lambda buffer: buffers(buffer.raw()))

    def persistent_id(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is str and obj in MAIN:  # such as the name of a logger, which differs in a worker
            return "main"
        if kind is set or kind is frozenset:  # its order depends on PYTHONHASHSEED
            digests = []
            for item in obj:
                inner = _Digest(self._namespace)
                digests.append(inner.of(item))
                self.by_name.update(inner.by_name)
                self.by_value.extend(inner.by_value)
            return kind.__name__, sorted(digests)
        return None

    def of(self, value: Any) -> bytes:
        """The digest of the value. Raises whatever pickling raises."""
        self.dump(value)
        return self._content.digest() + self._buffers.digest()


def digest(value: Any, namespace: Mapping[str, Any]) -> bytes | None:
    """The digest of a value of the script; None if it cannot be pickled."""
    try:
        return _Digest(namespace).of(value)
    except Exception:
        return None


def fingerprint(thing: Any, namespace: Mapping[str, Any]) -> Any:
    """A value that changes if another function or class takes the name; None for any other object.

    A class is identified by its members, so that setting an attribute changes it too.
    """
    if isinstance(thing, FunctionType):
        code = thing.__code__
        return code.co_firstlineno, code.co_code, fingerprint(getattr(thing, "__wrapped__", None), namespace)
    if not isinstance(thing, type):
        return None
    members = {}
    for name, member in vars(thing).items():
        if not _is_pythons(name):
            inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            is_nested = isinstance(inner, type) and inner.__qualname__ == f"{thing.__qualname__}.{name}"
            is_read = is_nested or isinstance(inner, FunctionType)
            members[name] = fingerprint(inner, namespace) if is_read else digest(member, namespace)
    return members


def _is_pythons(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def survey(roots: Sequence[Any], namespace: Mapping[str, Any]) -> Survey:
    """What these functions use of the script, directly or indirectly. Raises what pickling them raises."""
    found = Survey()
    seen: set[int] = set()
    pickler = _Digest(namespace)
    pickler.of(roots)
    left = [*pickler.by_name.values(), *pickler.by_value]
    found.paths |= pickler.by_name
    while left:
        for code in _codes(left.pop(), namespace, seen):
            for name in names_in(code):
                if name in found.values or name not in namespace or _is_pythons(name):
                    continue
                pickler = _Digest(namespace)
                found.values[name] = None
                with suppress(Exception):
                    found.values[name] = pickler.of(namespace[name])
                found.uses[name] = set(pickler.by_name)
                found.paths |= pickler.by_name
                left += [*pickler.by_name.values(), *pickler.by_value]
    found.paths = {path: fingerprint(thing, namespace) for path, thing in found.paths.items()}
    return found


_WRAPPERS = (
    staticmethod, classmethod, MethodType, property,
    functools.partial, functools.partialmethod, functools.cached_property,
)  # fmt: skip


def _codes(thing: Any, namespace: Mapping[str, Any], seen: set[int]) -> Iterator[CodeType]:
    """The code objects of a function or class of the script, and of what it wraps or encloses."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    inside: list[Any] = []
    if isinstance(thing, FunctionType):
        if thing.__globals__ is namespace:
            yield thing.__code__
        for cell in thing.__closure__ or ():
            with suppress(ValueError):  # the closure cell is empty
                inside.append(cell.cell_contents)
    elif isinstance(thing, type):
        inside += vars(thing).values() if thing.__module__ in MAIN else ()
    elif isinstance(thing, _WRAPPERS):
        inside += [getattr(thing, name, None) for name in ("__func__", "func", "fget", "fset", "fdel")]
    inside.append(getattr(thing, "__dict__", {}).get("__wrapped__"))
    for each in inside:
        yield from _codes(each, namespace, seen)


#: The types of what a program sets in a module to be read by others.
_SETTINGS = (bool, int, float, complex, str, bytes, type(None), PurePath, Enum)
#: The most items of a list, dict or set of settings.
_MANY = 1000


def is_setting(value: Any, depth: int = 8) -> bool:
    """Whether a value is plain data: numbers, texts, paths, Enums, small collections, an `argparse.Namespace`."""
    if isinstance(value, _SETTINGS):
        return True
    kind = type(value)
    if is_namespace(value):
        value, kind = vars(value), dict
    if kind not in (list, tuple, set, frozenset, dict) or len(value) > _MANY or depth == 0:
        return False
    inside = [*value, *value.values()] if kind is dict else value
    return all(is_setting(each, depth - 1) for each in inside)


def settings(
    fn: Callable[..., Any], initializer: Callable[[], Any] | None, namespace: Mapping[str, Any]
) -> dict[str, bytes]:
    """The digests of the settings in other modules that the experiment's code names: the guard may have set them.

    A bool that a function of its own module sets is none: it says what is done already in this process.
    """
    from pyexp.worker.sources import Codes, uses  # only the run asks, which has taken the fingerprint of its code

    found = {}
    code = Codes(fn, initializer).of()
    for part in () if code is None else code.parts:
        module, _, name = part.rpartition(".")
        there = getattr(sys.modules.get(module), "__dict__", {})
        if name not in there or there is namespace or not is_setting(value := there[name]):
            continue
        codes = [each.__code__ for each in [*there.values()] if isinstance(each, FunctionType)]
        if isinstance(value, bool) and any(uses(each, name, "STORE_GLOBAL") for each in codes):
            continue
        if (known := digest(value, namespace)) is not None:
            found[f"{module}:{name}"] = known
    return found


def lacking(asked: Survey, namespace: dict[str, Any]) -> Lack:
    """What a worker lacks of a survey: globals with another value, missing globals, missing paths.

    For a global whose value cannot be pickled, only its presence is checked. Modules that are not loaded are left out.
    """
    differ, missing = [], []
    for key, expected in asked.values.items():
        place, name = place_of(key, namespace)
        if place is not None and name not in place:
            missing.append(key)
        elif place is not None and expected is not None and digest(place[name], namespace) != expected:
            differ.append(key)

    def is_there(path: str, mark: Any) -> bool:
        try:
            return mark in (None, fingerprint(lookup(namespace, path), namespace))
        except (LookupError, AttributeError):
            return False

    return Lack(differ, missing, [path for path, mark in asked.paths.items() if not is_there(path, mark)])


def comes_back(payload: bytes, namespace: Mapping[str, Any]) -> bool:
    """Whether a value can be loaded again after it is sent. A progress bar, for example, can be pickled only."""
    try:
        _Trial(BytesIO(payload), namespace).load()
    except Exception:
        return False
    return True


class _Trial(pickle.Unpickler):
    """Loads a sent value in the parent, as a test."""

    def __init__(self, stream: BytesIO, namespace: Mapping[str, Any]) -> None:
        super().__init__(stream)
        self._namespace = namespace

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if found is of_main:
            return functools.partial(lookup, self._namespace)
        return (lambda: dict(self._namespace)) if found is main_namespace else found


class Shipment:
    """What a run sends to each of its workers: first the kit, then the rest.

    Raises `ConfigError` for a function that cannot be sent.
    """

    def __init__(self, fn: Callable[..., Any], initializer: Callable[[], Any] | None, path: list[str]) -> None:
        self._rest = Rest({}, fn, initializer)
        self._namespace = script.namespace_of(fn)
        self.asked = Survey()
        source = script.script_of(self._namespace)
        if source is not None:
            with self._packing():
                self.asked = survey([fn, initializer], self._namespace)
            if not (self.asked.paths or self.asked.values or is_project(source.file)):
                source = None  # an installed program such as a test runner or a kernel, not the user's script
        try:
            folder = os.getcwd()
        except OSError:  # it was removed
            folder = os.path.abspath(os.sep)
        if source is not None:
            self.asked.values |= settings(fn, initializer, self._namespace)
        self.kit = Kit([str(each) for each in sys.argv], path, folder, source, script.project_sources(), self.asked)
        if source is None:
            self.rest(Lack())

    def rest(self, lack: Lack) -> bytes:
        """The message for a worker that lacks this. Raises `ConfigError` for something it lacks that cannot be sent.

        If loading failed in the first worker, its lack is unknown: then everything that can be sent is, and each worker
        takes what it lacks.
        """
        if lack.failed:
            lack = Lack(differ=[name for name, digest in self.asked.values.items() if digest is not None])

        def pack(value: Any) -> bytes:
            with self._packing():
                stream = BytesIO()
                is_loaded = self.kit.script is not None
                Shipper(stream, self._namespace, is_loaded=is_loaded, without=lack.paths).dump(value)
                return stream.getvalue()

        values = {}
        for name in sorted(lack.names(self.asked)):
            place, key = place_of(name, self._namespace)
            if place is None or key not in place:  # removed since
                continue
            value = place[key]
            if self.asked.values.get(name) is not None and comes_back(pack(value), self._namespace):
                values[name] = value
            elif name in lack.missing:
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                raise ConfigError(
                    f"the experiment {self._label()} uses {name}, a {kind}, which cannot be sent to another process "
                    f"and is not made at the top level of the script; make {name} there, outside of any guard, or "
                    "inside the function, or run it with executor='inline'"
                )
        return pack(tuple(self._rest._replace(values=values)))

    @contextmanager
    def _packing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ConfigError(
                f"the experiment {self._label()} cannot be sent to another process: {error}; "
                "make what it uses inside the function, or run it with executor='inline'"
            ) from error

    def _label(self) -> str:
        return repr(getattr(self._rest.fn, "__name__", self._rest.fn))
