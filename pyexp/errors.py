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


def closest(value: object, known: Iterable[object], limit: int = 8) -> str:
    """The word on a value nearest to one that is not there, to stand before a `listing`; `""` where that says enough.

    Of a few numbers, only one that looks the same is worth a word.

    >>> closest(0.57, [0.1, 0.5700000000000001]), closest(0.3, [0.1, 0.2]), closest(0.3, [i / 4 for i in range(20)])
    ('; nearest 0.5700000000000001', '', '; nearest 0.25')
    """
    items = list(known)
    if isinstance(value, str):
        from difflib import get_close_matches  # only a mistake pays for it

        close = get_close_matches(value, [item for item in items if isinstance(item, str)], n=1)
        return f"; nearest {close[0]!r}" if close else ""
    numbers = [item for item in items if isinstance(item, (int, float)) and not isinstance(item, bool) and item == item]
    if not numbers or not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        return ""
    try:
        near = min(numbers, key=lambda item: abs(item - value))
        is_same = abs(near - value) <= 1e-6 * abs(value)
    except OverflowError:  # an int that no float holds
        return ""
    return f"; nearest {near!r}" if is_same or len(items) > limit else ""
