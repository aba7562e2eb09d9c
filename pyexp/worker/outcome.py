"""Outcomes: how one call ended, as plain data that can cross a pipe. `attempt` makes one where the call is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyexp.results import Outcome

#: The message of a cell that asked for input.
NO_TERMINAL = "a cell has no terminal: add --executor inline -s -k NAME"
#: The exceptions of a debugger and of `input` without a terminal: module, type and message.
_WANTED_TERMINAL = (("bdb", "BdbQuit", ""), ("builtins", "EOFError", "EOF when reading a line"))


def attempt(call: Callable[[], Any], save: Callable[[Any], list[str]], has_terminal: bool = False) -> Outcome:
    """The outcome of calling `call` and saving what it returns.

    `save` commits the value and returns the classes and functions that loading it needs. If either raises, even
    SystemExit or KeyboardInterrupt, only this cell fails.
    """
    try:
        value = call()
        from pyexp.results import done  # a worker can import it only after it got its kit

        return done(value, save(value))
    except BaseException as error:  # a cell may raise anything, and the next one has to run
        return failed(error, has_terminal)


def failed(error: BaseException, has_terminal: bool = False) -> Outcome:
    """The outcome of a call that raised. Works even if the exception's own methods fail.

    If it asked for input without a terminal, the message says how to get one.
    """
    traceback = traceback_of(error)  # first, as it frees memory if necessary
    kind, text = type(error), text_of(error)
    if not has_terminal and (kind.__module__, kind.__name__, text) in _WANTED_TERMINAL:
        text = NO_TERMINAL
    return failure(kind.__name__, text, traceback)


def failure(kind: str, message: str, traceback: str = "") -> Outcome:
    """The outcome of a call that ended without a result, with the reason in words."""
    return {"status": "failed", "type": kind, "message": message, "traceback": traceback}


def text_of(error: BaseException) -> str:
    """The exception's message and notes, even if its `__str__` fails."""
    try:
        return printable("; ".join(map(str, (error, *getattr(error, "__notes__", ())))))
    except BaseException as fault:  # user code
        return f"<{type(error).__name__}.__str__ raised {type(fault).__name__}>"


def traceback_of(error: BaseException) -> str:
    """The exception's traceback as text, without the frames of pyexp around the experiment."""
    try:
        return _formatted(error)
    except BaseException:  # perhaps out of memory or descriptors, which the experiment's frames still hold
        trace = error.__traceback__
        while trace is not None:
            try:
                trace.tb_frame.clear()
            except RuntimeError:  # the frame is still running
                pass
            trace = trace.tb_next
    try:
        return _formatted(error)
    except BaseException as fault:  # a __str__ or a __cause__ that fails
        lines = ["Traceback (most recent call last):\n"]
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}\n')
            trace = trace.tb_next
        lines.append(f"{type(error).__name__}: {text_of(error)} ({type(fault).__name__} while it was formatted)\n")
        return printable("".join(lines))


def _formatted(error: BaseException) -> str:
    """The traceback from the first frame outside pyexp; all of it if every frame is pyexp's."""
    import traceback  # imported only for a failure

    first = error.__traceback__
    while first is not None and first.tb_frame.f_globals.get("__name__", "").startswith("pyexp."):
        first = first.tb_next
    return printable("".join(traceback.format_exception(type(error), error, first or error.__traceback__)))


def printable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
