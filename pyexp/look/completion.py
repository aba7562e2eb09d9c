"""Completion of flags, runs, cells and keys in a shell, by argcomplete. It is imported only when a shell asks."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NoReturn


def complete(parser: argparse.ArgumentParser, values: Mapping[str, Callable[[Any], Iterable[str]]]) -> NoReturn:
    """Answer the shell, and end the process. `values` returns what an argument may be, from the words before it.

    A shell that asks never starts a run, also where argcomplete is not installed.
    """
    try:
        import argcomplete
    except ImportError:
        raise SystemExit(1) from None
    for action in _actions(parser):
        if action.dest in values:
            action.completer = partial(_found, values[action.dest])  # type: ignore[attr-defined]  # argcomplete looks there
    argcomplete.autocomplete(parser)
    raise SystemExit(1)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)


def _found(values: Callable[[Any], Iterable[str]], *, parsed_args: Any, **_: Any) -> list[str]:
    try:
        return list(values(parsed_args))
    except Exception:  # the user only pressed Tab
        return []
