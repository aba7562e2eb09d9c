"""The kinds of leaves of a config: how each is taken apart into plainer values, and put together again.

The hash and the record share this one table, so they agree on what a value is. A leaf that needs a class of the user's
is not put together when it is read from disk: a `NotLoaded` stands for it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum, Flag
from functools import cached_property, partial, reduce
from itertools import takewhile
from math import prod
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple, TypeVar

from pyexp.configs import PLAIN, FrozenConfig, FrozenList, FrozenSet, encoders, registered
from pyexp.errors import HashError

T = TypeVar("T")

#: The loaded modules by name, and a function that loads one. `pyexp/__init__.py` sets both when it loads this module.
modules: Mapping[str, Any] = {}
load: Callable[[str], Any] = modules.__getitem__


class Parts(NamedTuple):
    """A leaf taken apart: its kind, the name of its class or function (`""` if that is the kind), and its content."""

    kind: str
    name: str
    content: Any

    @property
    def tag(self) -> str:
        """The kind and name as the hash encodes them. All classes of paths count as one kind."""
        kind = "path" if self.kind.startswith("pathlib.") else self.kind
        return f"{kind}:{self.name}" if self.name else kind


class NoContent(Exception):
    """Raised for a leaf without stable content."""

    def __init__(self, leaf: Any, words: str) -> None:
        super().__init__(words)
        self.leaf = leaf


@dataclass(frozen=True, slots=True, repr=False)
class NotLoaded:
    """Placeholder for a value that cannot be restored in a config read from disk.

    Restoring it needs its class (`kind` is `enum`, `fields`, `named`, `registered` or a known type), or it was too long
    for the record (`cut`). `name` is the class or function, `text` the content. Placeholders of equal values are equal.

    >>> NotLoaded("enum", "main.Colour", "RED")
    <main.Colour.RED, not loaded>
    """

    kind: str
    name: str
    text: str

    def __repr__(self) -> str:
        name = self.name.rpartition(":")[2] or self.kind
        if self.kind == "enum":
            shown = f".{self.text}" if self.text.isidentifier() else f"({self.text})"
        elif self.kind == "cut":
            shown = f" of {self.text}"
        else:
            shown = f" {self.text[:60]}{'…' * (len(self.text) > 60)}".rstrip()
        return f"<{name}{shown}, not loaded>"


NotLoaded.__module__ = "pyexp"


class Leaf(NamedTuple):
    """A row of the table: how to take a value apart, and how to put it together; None if pyexp cannot do that."""

    apart: Callable[[Any], Any]
    together: Callable[[Any], Any] | None = None


def apart(value: Any) -> Parts:
    """The parts of a leaf that is not a plain value. Raises `NoContent` if it has no stable content."""
    kind = type(value)
    parent = registered(kind)
    if parent is not None:
        try:
            content = encoders[parent](value)
        except Exception as error:  # user code
            words = f"a {qualified(kind)}, whose registered encoder raised {type(error).__name__}: {error}"
            raise NoContent(value, words) from error
        return Parts("registered", f"{qualified(parent)}:{qualified(kind)}", content)
    if isinstance(value, Enum):
        # How a flag of several members is called depends on the version of Python.
        return Parts("enum", qualified(kind), value.value if isinstance(value, Flag) else value.name)
    if kind is NotLoaded:
        raise NoContent(value, f"{value!r}, which stands for a value that was not read; put the value itself there")
    if has_fields(kind):
        try:
            parts = {name: getattr(value, name) for name in field_names(value)}
        except AttributeError:
            raise _refusal(value) from None
        if beside := _beside_fields(value, parts):
            words = (
                f"a {qualified(kind)}, a subclass of a dataclass, whose {beside!r} is not a field; decorate it too, or"
            )
            raise NoContent(value, f"{words} register an encoder with pyexp.register_encoder")
        return Parts("fields", qualified(kind), parts)
    names = [name for name in map(_type_name, kind.__mro__) if name in LEAVES]
    if names:
        known = "numpy.generic" if "numpy.generic" in names else names[0]  # numpy.str_ is a str first
        return Parts(known, _name_of_subclass(value, known), LEAVES[known].apart(value))
    if isinstance(value, type) or _is_function(value):
        return Parts("named", "", _name(value))
    raise _refusal(value)


def together(kind: str, name: str, content: Any) -> Any:
    """The leaf with these parts. Raises an Exception if it needs a user's class, or if the content is damaged."""
    leaf = LEAVES[kind]
    if leaf.together is None or not (name == "" or (kind == "numpy.generic" and name.startswith("numpy."))):
        raise TypeError(f"a {name or kind} cannot be put together")
    return leaf.together(content)


def _beside_fields(value: Any, known: Collection[str]) -> str:
    """An attribute that a subclass which is not decorated itself adds to the fields; `""` if there is none.

    What a decorated class keeps beside its fields is made from them.
    """
    kind = type(value)
    added = [*takewhile(lambda parent: not _DECORATED & {*vars(parent)}, kind.__mro__)]
    slots = [name for parent in added for name in vars(parent).get("__slots__", ()) if hasattr(value, name)]
    state = [*getattr(value, "__dict__", ()), *slots] if added else []
    return next((name for name in state if name not in known and not _is_derived(kind, name)), "")


def _is_derived(kind: type, name: str) -> bool:
    """Whether the attribute says nothing of its own: a cached property, or `__weakref__`."""
    return name.startswith("__") or isinstance(getattr(kind, name, None), cached_property)


def _name_of_subclass(value: Any, known: str) -> str:
    """The name of the value's class; `""` if it is the known type. Raise `NoContent` for a subclass that adds state."""
    kind = type(value)
    if _type_name(kind) == known:
        return ""
    added = takewhile(lambda parent: _type_name(parent) != known, kind.__mro__)
    if getattr(value, "__dict__", None) or any(vars(parent).get("__slots__") for parent in added):
        raise _refusal(value)
    return qualified(kind)


def _type_name(kind: type) -> str:
    """The qualified name of a type in its public module, the same for every version of Python."""
    return f"{_public_module(kind)}.{kind.__qualname__}"


def _name(value: Any) -> str:
    """The qualified name of a class or function. Raise `NoContent` if it cannot be found under its name.

    A decorator may give a wrapper the name of what it wraps.
    """
    if "<" in value.__qualname__:
        what = "a lambda" if "<lambda>" in value.__qualname__ else f"{value.__name__!r}, defined inside a function"
        what += ", which has no stable hash; use a named function or class from the top level of a module"
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType)) and not hasattr(value, "__wrapped__"):
        return qualified(value)
    else:
        try:
            found = reduce(getattr, value.__qualname__.split("."), modules[value.__module__])
        except Exception:  # the module or name is missing, or the module's own __getattr__ raised anything
            found = None
        if found is value:
            return qualified(value)
        what = (
            f"a {qualified(type(value))} that calls itself {qualified(value)!r} and is not what stands there; use the "
            "function of that name"
        )
    raise NoContent(value, f"{what}, a string, or register an encoder with pyexp.register_encoder")


def _is_function(value: Any) -> bool:
    """Whether the value is a function, written in Python or C, or wrapped. False for a bound method: it has state."""
    named = all(isinstance(getattr(value, name, None), str) for name in ("__module__", "__qualname__"))
    return callable(value) and named and isinstance(getattr(value, "__self__", None), (ModuleType, NoneType))


_DECORATED = frozenset({"__dataclass_fields__", "__attrs_attrs__"})


def has_fields(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def field_names(value: Any) -> list[str]:
    return [field.name for field in _fields(value)]


def _fields(value: Any) -> Iterable[Any]:
    """The fields of a dataclass or attrs instance."""
    attrs = getattr(type(value), "__attrs_attrs__", None)
    return fields(value) if attrs is None else attrs


def _walked(value: Any, *, encoded: bool) -> Iterator[Any]:
    """The value and all that is in it, each object once, but no plain value inside another.

    What has a registered encoder is followed into what that returns if `encoded`, or else into its fields.
    """
    seen: dict[int, Any] = {}
    rest = [value]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        yield item
        inside: Iterable[Any] = ()
        if isinstance(item, dict):
            inside = (*item, *item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            inside = item
        elif isinstance(item, partial):
            inside = (item.func, *item.args, *item.keywords.values())
        elif encoded and (parent := registered(type(item))) is not None:
            inside = (encoders[parent](item),)
        elif has_fields(type(item)):
            inside = [getattr(item, name, None) for name in field_names(item)]
        rest += [part for part in inside if type(part) not in _PLAIN]


def named_in(value: Any) -> Iterator[Any]:
    """The functions and classes that a frozen value names: those in it, and the classes of the objects in it.

    They come several times if they are named several times. A `NotLoaded` stands for what it names.
    """
    for item in _walked(value, encoded=True):
        if type(item) not in _CONTAINERS:
            yield item if isinstance(item, (type, NotLoaded)) or _is_function(item) else type(item)


def lacking(value: Any) -> str:
    """The first field that an instance in a value lacks, as its class got it later, in words; `""` if there is none."""
    for item in _walked(value, encoded=False):
        for name in _initialized(item) if has_fields(type(item)) else ():
            if not hasattr(item, name):
                return f"a {qualified(type(item))} that lacks {name!r}, a field that this class has now"
    return ""


_PLAIN = frozenset({bool, int, float, str, bytes, NoneType})
_CONTAINERS = frozenset({FrozenConfig, FrozenList, FrozenSet, dict, list, tuple, set, frozenset, partial})


def _initialized(value: Any) -> list[str]:
    """The names of the fields that making an instance has set; none if its class has an `__init__` of its own."""
    code = getattr(type(value).__init__, "__code__", None)
    if code is None or not (code.co_filename == "<string>" or code.co_filename.startswith("<attrs generated")):
        return []
    return [field.name for field in _fields(value) if field.init]


def _refusal(value: Any) -> NoContent:
    kind = type(value)
    return NoContent(
        value,
        f"a {qualified(kind)}, which has no stable hash; use plain values, or say what it is made of: "
        f"pyexp.register_encoder({kind.__name__}, lambda value: …)",
    )


def qualified(thing: Any) -> str:
    """The module and qualified name of a class or function. The script's own module is named after its file.

    A script is `__main__` in its own process only; a process that imports it knows it by its file.
    """
    main = thing.__module__ in ("__main__", "__mp_main__")
    return f"{script_name(modules['__main__']) if main else _public_module(thing)}.{thing.__qualname__}"


def _public_module(thing: Any) -> str:
    """The public module of a class or function.

    It is its `__module__`, unless a part of that begins with `_`: a library may rename a private module in its next
    version. Then it is the shortest name under which the same object is found: of a package around the private part,
    or of the module without the underscores (`_io` is `io`).
    """
    module: str = thing.__module__
    parts = module.split(".")
    private = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
    if private is None:
        return module
    around = [".".join(parts[: i + 1]) for i in range(private)]
    bare = ".".join(part.lstrip("_") for part in parts)
    return next((name for name in sorted([*around, bare], key=len) if _stands_in(name, thing)), module)


def _stands_in(name: str, thing: Any) -> bool:
    """Whether a loaded module has the thing under its name. Does not make a lazy module load more."""
    first, *inner = thing.__qualname__.split(".")
    try:
        module = modules[name]
        known = first in vars(module) or first in vars(module).get("__all__", ())
        return known and reduce(getattr, inner, getattr(module, first)) is thing
    except Exception:  # the module is missing, or its own __getattr__ raised anything
        return False


def script_name(main: Any) -> str:
    """The name under which another process would import a script, from its `__spec__` or its `__file__`."""
    spec = getattr(main, "__spec__", None)
    name = "__main__" if spec is None else str(spec.name).removesuffix(".__main__")  # python -m package.module
    file = getattr(main, "__file__", None) or "<"
    if name != "__main__" or file.startswith("<"):  # no file: a notebook, a prompt, a pipe
        return name
    path = PurePath(file)
    if path.stem != "__main__":
        return path.stem
    above = path.parent  # python folder, python archive.pyz
    is_archive = above.suffix in (".exe", ".pyz", ".pyzw", ".zip")
    return (above.stem if is_archive else above.name).replace(".", "_")


def _numpy_array(value: Any) -> Any:
    """The type, shape and content of a NumPy array, in C order and little-endian. Every NaN becomes the same."""
    kind = _numpy_type(value.dtype)
    if value.dtype.hasobject or value.dtype.names is not None:
        return (kind, value.shape, value.ravel().tolist())
    if value.dtype.char in "gG":  # whose bytes hold padding
        return (kind, value.shape, [str(item) for item in value.ravel()])
    own = value.astype(value.dtype.newbyteorder("<"), order="C")
    if own.dtype.kind in "fc":
        parts = own.reshape(-1).view(own.real.dtype)
        parts[parts != parts] = float("nan")
    return (kind, own.shape, own.tobytes())


def _numpy_type(dtype: Any) -> Any:
    """The content of a dtype. Where its fields lie in memory does not matter."""
    if dtype.names is not None:
        return [(name, _numpy_type(dtype[name])) for name in dtype.names]
    if dtype.subdtype is not None:
        return (_numpy_type(dtype.base), dtype.shape)
    return str(dtype.char if dtype.hasobject else dtype.newbyteorder("<").str)


_FLOATS = frozenset({"numpy.float16", "numpy.float32", "numpy.float64"})
_TIMES = frozenset({"numpy.datetime64", "numpy.timedelta64"})
_INTS = frozenset(
    f"numpy.{sign}{name}" for sign in ("", "u") for name in ("int8", "int16", "int32", "int64", "intc", "longlong")
)
# NumPy 1 called the first `bool_`.
_SCALARS = _FLOATS | _INTS | {"numpy.bool", "numpy.bool_", "numpy.str_"}


def detail(kind: str, value: Any) -> str:
    """What the plain number of a NumPy scalar of this kind leaves out, in brackets; `""` if that is nothing.

    It is the unit of a time, and the bits of an unusual NaN.
    """
    if kind in _TIMES:
        return f"[{value.dtype.name.partition('[')[2] or 'generic]'}"
    if kind in _FLOATS and value != value and value.tobytes() != type(value)("nan").tobytes():
        return f"[{int(value.view(f'u{value.itemsize}')):x}]"
    return ""


def numpy_scalar(kind: str, number: Any) -> Any:
    """The NumPy scalar of this kind, followed by its `detail`, from its plain number.

    The plain number itself if NumPy is missing. NotImplemented for any other kind, such as a time without its unit.
    """
    name, _, more = kind.removesuffix("]").partition("[")
    is_time = name in _TIMES and more != ""
    if not is_time and name not in _SCALARS:
        return NotImplemented
    try:
        numpy = load("numpy")
    except ImportError:
        return number
    if is_time:
        return numpy.int64(-(1 << 63) if number is None else number).view(kind.removeprefix("numpy."))
    dtype = numpy.dtype(name.removeprefix("numpy.").rstrip("_"))
    if more:
        return numpy.dtype(f"u{dtype.itemsize}").type(int(more, 16)).view(dtype)
    return numpy.dtype(dtype.str).type(number)  # int64 for a longlong, as from its pickle


def _moment(value: Any) -> Any:
    return (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo)


def _zone(value: Any) -> str:
    if value.key is None:  # read from a file without a name
        raise _refusal(value)
    return str(value.key)


def _array(content: Any) -> Any:
    """The array of this type, shape and content."""
    numpy = load("numpy")
    kind, shape, items = content
    dtype, shape = _dtype(kind), tuple(shape)
    if isinstance(items, bytes):
        return numpy.ndarray(shape, dtype, items).copy()
    if dtype.char == "G":
        raise TypeError(f"NumPy reads fewer digits of a {dtype} than it writes")
    if prod(shape) != len(items):
        raise ValueError(f"{len(items)} items do not fill the shape {shape}")
    # An iterator, as an item may be a list.
    return numpy.fromiter(map(dtype.type, items) if dtype.char == "g" else items, dtype, len(items)).reshape(shape)


def _dtype(kind: Any) -> Any:
    """The dtype with this content."""
    dtype = load("numpy").dtype
    if isinstance(kind, list):
        return dtype([(name, _dtype(inner)) for name, inner in kind])
    return dtype((_dtype(kind[0]), tuple(kind[1]))) if isinstance(kind, tuple) else dtype(kind)


def _numbers(content: Any) -> range:
    """The range with this content: no number, one, or the first, the last and the step."""
    if len(content) < 2:
        return range(content[0], content[0] + 1) if content else range(0)
    first, last, step = content
    return range(first, last + step, step)


def _of(module: str, *names: str) -> Callable[[Any], Any]:
    """A function that imports and calls one of the standard library, with the items of a tuple as its arguments."""

    def make(content: Any) -> Any:
        function = reduce(getattr, names, load(module))
        return function(*content) if isinstance(content, tuple) else function(content)

    return make


def _offset(content: Any) -> Any:
    """The time zone of this offset and name."""
    unnamed = _of("datetime", "timezone")(content[0])
    return unnamed if unnamed.tzname(None) == content[1] else _of("datetime", "timezone")(content)


def _at(*names: str) -> Callable[[Any], Any]:
    """A function that restores a datetime or time from its digits, its fold and its zone."""
    read = _of("datetime", *names)
    return lambda content: read(content[0]).replace(fold=content[1], tzinfo=content[2])


_posix, _windows = Leaf(PurePath.as_posix, PurePosixPath), Leaf(PurePath.as_posix, PureWindowsPath)
_path = Leaf(PurePath.as_posix, _of("pathlib", "Path"))  # of the system that reads it

# Keyed by name, so that no type has to be imported. The rows of builtins serve their subclasses only.
LEAVES: dict[str, Leaf] = {
    "pathlib.PosixPath": _path,
    "pathlib.WindowsPath": _path,
    "pathlib.Path": _path,
    "pathlib.PurePosixPath": _posix,
    "pathlib.PureWindowsPath": _windows,
    "pathlib.PurePath": _posix,
    # A scalar that no Python number equals: a date, a void, a wider float.
    "numpy.generic": Leaf(lambda value: _numpy_array(value.reshape(())), lambda content: _array(content)[()]),
    "numpy.ndarray": Leaf(_numpy_array, _array),
    "builtins.int": Leaf(int),
    "builtins.float": Leaf(float),
    "builtins.complex": Leaf(lambda value: (value.real, value.imag), lambda content: complex(*content)),
    "builtins.str": Leaf(str.__str__),
    "builtins.bytes": Leaf(bytes),
    "builtins.bytearray": Leaf(bytes, bytearray),
    "builtins.list": Leaf(list),
    "builtins.tuple": Leaf(tuple),
    # The same for ranges that hold the same numbers; the length of a long one is an error.
    "builtins.range": Leaf(
        lambda value: (value[0], value[-1], value.step) if len(value[:2]) == 2 else tuple(value), _numbers
    ),
    "builtins.slice": Leaf(lambda value: (value.start, value.stop, value.step), lambda content: slice(*content)),
    "builtins.ellipsis": Leaf(lambda value: None, lambda content: ...),
    "datetime.datetime": Leaf(_moment, _at("datetime", "fromisoformat")),
    "datetime.date": Leaf(lambda value: value.isoformat(), _of("datetime", "date", "fromisoformat")),
    "datetime.time": Leaf(_moment, _at("time", "fromisoformat")),
    "datetime.timedelta": Leaf(
        lambda value: (value.days, value.seconds, value.microseconds), _of("datetime", "timedelta")
    ),
    "pandas.Timedelta": Leaf(lambda value: (value.days, value.seconds, value.microseconds, value.nanoseconds)),
    "datetime.timezone": Leaf(lambda value: (value.utcoffset(None), value.tzname(None)), _offset),
    "zoneinfo.ZoneInfo": Leaf(_zone, _of("zoneinfo", "ZoneInfo")),
    "decimal.Decimal": Leaf(str, _of("decimal", "Decimal")),
    "fractions.Fraction": Leaf(lambda value: (value.numerator, value.denominator), _of("fractions", "Fraction")),
    "uuid.UUID": Leaf(lambda value: value.hex, _of("uuid", "UUID")),
    "functools.partial": Leaf(lambda value: (value.func, value.args, value.keywords)),
}


def has_encoders() -> bool:
    """Whether any foreign type is registered. All other values that pyexp can hash can be pickled."""
    return bool(encoders)


def register_encoder(kind: type[T], encoder: Callable[[T], Any]) -> None:
    """Teach the hash a foreign type: `encoder` returns the plainer values that a value is made of.

    The encoder has to return the same for equal values in every process, and something different for different values.
    It serves subclasses too, each under its own name. A mapping or list of a registered type is kept as it is and does
    not become a map or list. Registering a type again replaces its encoder.

    >>> class Angle:
    ...     def __init__(self, degrees): self.degrees = degrees
    >>> register_encoder(Angle, lambda angle: angle.degrees)
    >>> apart(Angle(90)).content
    90

    Raises `HashError` if `kind` is not a class, or one of the plain types, whose encoding is fixed; and if `encoder` is
    not a function.
    """
    if not isinstance(kind, type):
        raise HashError(f"{kind!r} is not a class; register_encoder takes the class whose values are to be encoded")
    if kind in PLAIN or kind is object:
        words = "is fixed; register_encoder takes a class of its own, such as a subclass"
        raise HashError(f"the encoding of {kind.__name__} {words}")
    if not callable(encoder):
        raise HashError(f"the encoder of {kind.__name__} is {encoder!r}; it has to be a function of a value")
    encoders[kind] = encoder
