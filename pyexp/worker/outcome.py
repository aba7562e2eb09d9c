"""How one call ended, as plain data that crosses a pipe: an `Outcome` is made where the call is, by `attempt`.

It stands on a place where a worker and its parent both find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyexp.results import Outcome

#: The message of a cell that asked for input.
NO_TERMINAL = "a cell has no terminal: add --executor inline -s -k NAME"
#: What a debugger and `input` raise where they find no input: module, type and message.
_WANTED_TERMINAL = (("bdb", "BdbQuit", ""), ("builtins", "EOFError", "EOF when reading a line"))


def attempt(call: Callable[[], Any], save: Callable[[Any], list[str]], has_terminal: bool = False) -> Outcome:
    """The outcome of calling `call` and saving what it returns: the one place where a call becomes data.

    `save` commits the value and returns the classes and functions that loading it needs. Whatever either raises, also
    SystemExit and KeyboardInterrupt, is a failure of this cell and of nothing else.
    """
    try:
        value = call()
        from pyexp.results import done  # a worker finds it once the kit has said where modules are

        return done(value, save(value))
    except BaseException as error:  # a cell may raise anything, and the next one still has to run
        return failed(error, has_terminal)


def failed(error: BaseException, has_terminal: bool = False) -> Outcome:
    """The outcome of a call that raised, whatever the exception's own methods do.

    If it raised because it wanted input and has no terminal, the message says how to give it one.
    """
    traceback = traceback_of(error)  # first, as it sees to it that there is memory left
    kind, text = type(error), text_of(error)
    if not has_terminal and (kind.__module__, kind.__name__, text) in _WANTED_TERMINAL:
        text = NO_TERMINAL
    return failure(kind.__name__, text, traceback)


def failure(kind: str, message: str, traceback: str = "") -> Outcome:
    """The outcome of a call that ended without a result, for a reason that is said in words."""
    return {"status": "failed", "type": kind, "message": message, "traceback": traceback}


def text_of(error: BaseException) -> str:
    """The exception's message, also if its own `__str__` fails."""
    try:
        return printable(str(error))
    except BaseException as fault:  # user code
        return f"<{type(error).__name__}.__str__ raised {type(fault).__name__}>"


def traceback_of(error: BaseException) -> str:
    """The exception's traceback as text, without the frames of pyexp around the experiment."""
    try:
        return _formatted(error)
    except BaseException:  # for want of memory or descriptors perhaps, which the experiment's frames still hold
        _clear(error.__traceback__)
    try:
        return _formatted(error)
    except BaseException as fault:  # a __str__ or a __cause__ that fails
        lines = ["Traceback (most recent call last):\n", *_frames(error.__traceback__)]
        lines.append(f"{type(error).__name__}: {text_of(error)} ({type(fault).__name__} while it was formatted)\n")
        return printable("".join(lines))


def _formatted(error: BaseException) -> str:
    import traceback  # only a failure pays for it

    return printable("".join(traceback.format_exception(type(error), error, _from_experiment(error.__traceback__))))


def _clear(trace: Any) -> None:
    """Let go of what the frames of a traceback hold."""
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:  # a frame that is still at it
            pass
        trace = trace.tb_next


def _frames(trace: Any) -> list[str]:
    """The lines of a traceback, without their source."""
    lines = []
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}\n')
        trace = trace.tb_next
    return lines


def _from_experiment(trace: Any) -> Any:
    """The traceback from the first frame that is not pyexp's; the whole of it if there is none."""
    first = trace
    while first is not None and first.tb_frame.f_globals.get("__name__", "").startswith("pyexp."):
        first = first.tb_next
    return first or trace


def printable(text: str) -> str:
    """The text with what UTF-8 cannot carry (lone surrogates) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
