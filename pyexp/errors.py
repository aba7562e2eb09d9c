"""The errors of pyexp, in one small hierarchy, and the hints in their messages.

Every class also derives from the built-in error that a caller who does not know pyexp would catch. Does not know
configs, files or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

#: Begins the path of each file of pyexp.
OWN_FILES = __file__.removesuffix("errors.py")


class PyexpError(Exception):
    """Base of all errors of pyexp.

    >>> issubclass(ConfigError, PyexpError) and issubclass(ConfigError, ValueError)
    True
    """

    def __str__(self) -> str:
        # KeyError would show its message in quotes; every message here is a sentence.
        return str(self.args[0]) if self.args else ""


class ConfigError(PyexpError, ValueError, TypeError):
    """A config, a variation or a list of them is malformed, or a function cannot be an experiment.

    >>> import pyexp; pyexp.sweep({}, [])
    Traceback (most recent call last):
        ...
    pyexp.errors.ConfigError: configs is one dict; give a list of them: [{…}]
    """


class HashError(ConfigError):
    """A value in a config cannot be hashed: pyexp does not know its content."""


class SelectionError(PyexpError, IndexError, KeyError, ValueError):
    """A name, glob, query or coordinate selects nothing, or an index is outside the tensor.

    >>> import pyexp; pyexp.Tensor("ab").sel(axis_0=5)
    Traceback (most recent call last):
        ...
    pyexp.errors.SelectionError: axis 'axis_0' has no coordinate 5; there is 0, 1
    """


class ResultError(PyexpError, KeyError, AttributeError):
    """A result has no such output, or its file cannot be read."""


class UsageError(PyexpError, ValueError, TypeError):
    """An option, an argument or its value is wrong: from the command line, a call or the decorator.

    >>> import pyexp; pyexp.get_executor("forked")
    Traceback (most recent call last):
        ...
    pyexp.errors.UsageError: there is no executor 'forked'; did you mean 'fork'?
    """


class NoRunError(PyexpError, LookupError):
    """The run does not exist."""


class StoreError(PyexpError, RuntimeError):
    """The output folder cannot be used."""


class ExtraError(PyexpError, ImportError):
    """An optional library is not installed: pandas, xarray, those of the extra [html]."""


class ExecutorError(PyexpError, RuntimeError):
    """An executor cannot do here what the run needs, such as GPUs, or a fork on Windows."""


def called(remedy: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: if a call does not fit the function's parameters, raise `UsageError` that ends with the remedy.

    >>> called("write double(2)")(lambda number: 2 * number)(1, 2)
    Traceback (most recent call last):
        ...
    pyexp.errors.UsageError: <lambda>() takes 1 positional argument but 2 were given; write double(2)
    """

    def explained(fn: Callable[P, R]) -> Callable[P, R]:
        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return fn(*args, **kwargs)
            except TypeError as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:  # raised inside
                    raise
                words = str(error).removeprefix(f"{fn.__qualname__.rpartition('.')[0]}.")
                raise UsageError(f"{words}; {remedy}") from None

        return call

    return explained


#: Things that a message lists.
MOST_LISTED = 8


def listing(known: Iterable[object], limit: int = MOST_LISTED) -> str:
    """The known things as a short list in words, at most `limit` of them.

    >>> listing(["a", "b", "c"], limit=2)
    "'a', 'b', … (3 in all)"
    """
    items = list(known)
    shown = ", ".join(map(repr, items[:limit])) or "nothing"
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"


def frames_of_users(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of pyexp; None if all of them are."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    kept = None
    for each in reversed(frames):
        if not each.tb_frame.f_code.co_filename.startswith(OWN_FILES):
            kept = type(each)(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def nearest(word: object, known: Iterable[object], otherwise: str = "there is") -> str:
    """A hint for the end of a message: the known word nearest to `word`, or a list of the known words.

    >>> nearest("lerning_rate", ["learning_rate", "epochs"]), nearest("LR", ["lr", "epochs"])
    ("did you mean 'learning_rate'?", "did you mean 'lr'?")
    >>> nearest("lr", ["config.lr", "loss"]), nearest("x", ["learning_rate", "epochs"])
    ("did you mean 'config.lr'?", "there is 'learning_rate', 'epochs'")
    """
    from difflib import get_close_matches  # only a mistake pays for it

    words = [str(item) for item in known]
    inside = [known for known in words if known.endswith(f".{word}")]  # the word is the end of a dotted path
    alike = [known for known in words if _without_joints(known) == _without_joints(str(word))]
    close = inside[:3] or alike[:3] or get_close_matches(str(word), words, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(item) for item in close)}?"
    return f"{otherwise} {listing(words)}" if words else "there is nothing"


def closest(value: object, known: Iterable[object]) -> str:
    """A hint to put before a `listing`: the known value nearest to one that is missing; `""` if the listing is enough.

    If the listing shows all numbers, the hint names only one that looks like the missing one when printed.

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
    return f"; nearest {near!r}" if is_same or len(items) > MOST_LISTED else ""


def slip_of(word: str, known: Iterable[str]) -> str | None:
    """The known name that differs from `word` as a slip of the pen does; None if there is none.

    A slip is another case, another way to join words, a plural, two letters in the wrong order, or in names of five
    letters and more one letter more or less, or a wrong one inside a word. Names of one letter, digits and the ends of
    words tell names apart: `N` and `n`, `beta1` and `beta2`, `xmin` and `ymin`, `use_bn` and `use_ln`.

    >>> slip_of("Lr", ["lr"]), slip_of("lerning_rate", ["learning_rate"]), slip_of("ymin", ["xmin", "y"])
    ('lr', 'learning_rate', None)
    """
    return next((name for name in known if name != word and _is_slip(name, word)), None)


def _is_slip(one: str, other: str) -> bool:
    shortest = min(len(one), len(other))
    if _without_joints(one) == _without_joints(other):
        return shortest > 1
    start = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    end = next((i for i in range(shortest - start) if one[-1 - i] != other[-1 - i]), shortest - start)
    ours, theirs = one[start : len(one) - end], other[start : len(other) - end]
    if shortest < 4 or any(letter.isdigit() for letter in ours + theirs):
        return False
    letters = sum(map(str.isalpha, one[max(start - 1, 0) : start] + one[start + len(ours) :][:1]))  # on both sides
    if len(ours) == 2 and ours == theirs[::-1]:
        return letters > 0
    if len(ours) + len(theirs) == 1:
        return shortest > 4 or (ours + theirs == "s" and end == 0)
    return shortest > 4 and len(ours) == len(theirs) == 1 and letters == 2


def _without_joints(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")
