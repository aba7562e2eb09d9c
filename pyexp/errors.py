"""The errors a user can meet, in one small hierarchy, and the help they give.

Knows how a message is worded where several modules word it alike; knows nothing of configs, files or processes.
Every class is also the built-in error a caller would catch without knowing pyexp.
"""

from __future__ import annotations

from collections.abc import Iterable


class PyexpError(Exception):
    """Base of every error that pyexp raises for a mistake or a state of the world it can name."""

    def __str__(self) -> str:
        # KeyError would show its message in quotes; every message here is a sentence.
        return str(self.args[0]) if self.args else ""


class ConfigError(PyexpError, ValueError, TypeError):
    """A config, a variation or the list of them is not what a sweep can be made of, or a function is no experiment."""


class HashError(ConfigError):
    """A value in a config has no stable content to hash."""


class SelectionError(PyexpError, IndexError, KeyError, ValueError):
    """A name, glob, query or coordinate selects nothing, or an index is outside the tensor."""


class ResultError(PyexpError, KeyError, AttributeError):
    """A result has no such output, or its file cannot be read."""


class UsageError(PyexpError, ValueError):
    """An option or its value is wrong: from the command line, `run()` or the decorator."""


class NoRunError(PyexpError, LookupError):
    """There is no run where one was asked for."""


class StoreError(PyexpError, RuntimeError):
    """The output folder cannot be used."""


class ExtraError(PyexpError, ImportError):
    """An optional dependency is not installed."""


class ExecutorError(PyexpError, RuntimeError):
    """An executor cannot do what is asked of it here."""


def listing(known: Iterable[object], limit: int = 8) -> str:
    """The known things as a short list in words, at most `limit` of them.

    >>> listing(["a", "b", "c"], limit=2)
    "'a', 'b', … (3 in all)"
    """
    items = list(known)
    shown = ", ".join(repr(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"


def nearest(word: object, known: Iterable[object], otherwise: str = "there is") -> str:
    """A hint that ends a message: the known word nearest to `word`, else what there is.

    >>> nearest("lerning_rate", ["learning_rate", "epochs"])
    "did you mean 'learning_rate'?"
    >>> nearest("x", ["learning_rate", "epochs"])
    "there is 'learning_rate', 'epochs'"
    """
    from difflib import get_close_matches  # only a mistake pays for it

    words = [str(item) for item in known]
    close = get_close_matches(str(word), words, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(item) for item in close)}?"
    return f"{otherwise} {listing(words)}" if words else "there is nothing"


def closest(value: object, known: Iterable[object]) -> str:
    """The end of a message about a value that is not there: the known value nearest to it, if one is near.

    >>> closest(0.57, [0.1, 0.5700000000000001]), closest("a", [1])
    ('; nearest 0.5700000000000001', '')
    """
    from difflib import get_close_matches  # only a mistake pays for it

    if isinstance(value, str):
        close = get_close_matches(value, [item for item in known if isinstance(item, str)], n=1)
        return f"; nearest {close[0]!r}" if close else ""
    numbers = [item for item in known if isinstance(item, (int, float)) and not isinstance(item, bool)]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        return ""
    try:
        near = min((item for item in numbers if item == item), key=lambda item: abs(item - value), default=None)
    except OverflowError:  # an int that no float holds
        return ""
    return "" if near is None else f"; nearest {near!r}"
