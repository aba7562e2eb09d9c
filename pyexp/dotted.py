"""`Config`, the dict with dots that user code receives, and the reading of dotted keys.

Knows plain dicts and strings only. It stands below the frozen configs, so that a worker can hand a Config to an
experiment without paying for the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyexp.errors import ConfigError, nearest

Path = tuple[str, ...]


def split(key: object, where: str = "config") -> Path:
    """The parts of a dotted key.

    >>> split("mlp.width")
    ('mlp', 'width')

    Raises `ConfigError`, naming `where` the key stands, if it is no string, or it or a part of it is empty.
    """
    if not isinstance(key, str):
        raise ConfigError(
            f"a key of {where} is {key!r}, of type {type(key).__name__}; keys are strings: use {str(key)!r}"
        )
    parts = tuple(str.__str__(key).split("."))
    if not all(parts):
        raise ConfigError(f"a key of {where} is {key!r}, which has an empty part; write it like 'a' or 'a.b'")
    return parts


class Config(dict[str, Any]):
    """A dict whose keys are attributes too: `config.mlp.width` is `config["mlp"]["width"]`.

    Nested dicts become Configs, also those inside lists and tuples. A key that is spelled like a method
    of dict (`items`, `copy`) is reached with brackets. What an experiment receives is its own copy, with
    sorted keys, and may be changed.
    """

    __slots__ = ()
    __module__ = "pyexp"  # pickles name the public home, so that results outlive the layout of this package

    def __init__(self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__()
        self.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            pass
        if name.startswith("__") and name.endswith("__"):  # protocols probe for these; no key was meant
            raise AttributeError(name)
        # With the object and no name, Python adds no hint of its own to the error's.
        raise AttributeError(f"Config has no attribute {name!r}; {nearest(name, self)}", obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is a method of Config; set the key with config[{name!r}] = …")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"Config has no attribute {name!r}; {nearest(name, self)}")
        del self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _dotted(value))

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __or__(self, other: Any) -> Any:
        return Config({**self, **other}) if hasattr(other, "keys") else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return Config({**other, **self}) if hasattr(other, "keys") else NotImplemented

    def __ior__(self, other: Any) -> Config:  # type: ignore[override]  # dict's own overloads say Self
        self.update(other)
        return self

    def copy(self) -> Config:
        """A shallow copy, itself a Config."""
        return Config(self)

    @classmethod
    def fromkeys(cls, keys: Iterable[str], value: Any = None) -> Config:  # type: ignore[override]
        """A Config with the same value under every key."""
        return cls((key, value) for key in keys)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if isinstance(key, str) and key.isidentifier())]

    def __repr__(self) -> str:
        return f"Config({super().__repr__()})"


def _dotted(value: Any) -> Any:
    """The value with every dict in it, through lists and tuples, made a Config."""
    kind = type(value)
    if kind is Config:
        return value
    if isinstance(value, dict):
        return Config(value)
    if kind is list and any(isinstance(item, (dict, list, tuple)) for item in value):
        return [_dotted(item) for item in value]
    if kind is tuple and any(isinstance(item, (dict, list, tuple)) for item in value):
        return tuple(_dotted(item) for item in value)
    return value
