"""A callable is an experiment if a call with one config returns a result; if not, it is refused where it is decorated.

Callables are drawn: a body, as a function, method or object, in wrappers that hand a call on. What a call returns is
the oracle.
"""

import contextlib
import functools
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import ConfigError, Experiment
from tests.cli.scripts import go, write

CONFIG = {"x": 3}


def plain(*arguments: Any) -> Any:
    return arguments[-1]["x"]


async def coroutine(*arguments: Any) -> Any:
    return arguments[-1]["x"]


def generator(*arguments: Any) -> Any:
    yield arguments[-1]["x"]


async def stream(*arguments: Any) -> Any:
    yield arguments[-1]["x"]


@contextlib.contextmanager
def nothing_around() -> Iterator[None]:
    yield


def waiting_for(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of a user's that makes a result of what a call postpones."""

    @functools.wraps(fn)
    def waited(config: Any) -> Any:
        made = fn(config)
        if hasattr(made, "send"):
            try:
                return next(made) if hasattr(made, "__next__") else made.send(None)
            except StopIteration as end:
                return end.value
        return made

    return waited


BODIES = (plain, coroutine, generator, stream)
FORMS: tuple[Callable[[Any], Any], ...] = (
    lambda body: body,
    lambda body: types.MethodType(body, object()),
    lambda body: type("Callable", (), {"__call__": body})(),
    lambda body: contextlib.contextmanager(body) if body is generator else body,
    lambda body: contextlib.asynccontextmanager(body) if body is stream else body,
)
WRAPPERS = (functools.partial, functools.lru_cache, staticmethod, nothing_around(), waiting_for)


@given(st.sampled_from(BODIES), st.sampled_from(FORMS), st.lists(st.sampled_from(WRAPPERS), max_size=3))
def test_what_returns_a_result_is_an_experiment_and_nothing_else(body: Any, form: Any, wrappers: list[Any]) -> None:
    fn = form(body)
    for wrap in wrappers:
        fn = wrap(fn)
    try:
        returned = fn(CONFIG)
    except TypeError:  # a cache that wants it hashable
        returned = None
    if hasattr(returned, "close"):
        returned.close()
    if returned == 3:
        assert Experiment(fn).fn is fn
    elif waiting_for not in wrappers:  # what a user's decorator does is not to be seen
        with pytest.raises(
            ConfigError, match=r"is (an? (async |generator )+function, and calling it|cached by functools)"
        ):
            Experiment(fn)


def too_many(config: Any, x: Any) -> Any: ...
def by_name(config: Any, *, x: Any) -> Any: ...
def nothing() -> Any: ...
def method(self: Any, config: Any) -> Any: ...
def only_by_name(*, config: Any) -> Any: ...
def one(config: Any) -> Any: ...
def some(config: Any, x: int = 1, *rest: Any, y: int = 2, **others: Any) -> Any: ...


#: What is said of each signature; nothing if it is right.
SIGNATURES: dict[Callable[..., Any], str] = {
    too_many: "missing a required argument: 'x'; give it one parameter, the config",
    by_name: "missing a required(.*) argument: 'x'; give it one parameter, the config",
    nothing: "too many positional arguments; give it a parameter: def experiment(config)",
    method: "missing a required argument: 'config'; decorate a function, or make one of a bound method",
    only_by_name: "too many positional arguments; give it one parameter",
    one: "",
    some: "",
}
TRANSPARENT = (staticmethod, nothing_around())


@given(st.sampled_from(list(SIGNATURES)), st.booleans(), st.lists(st.sampled_from(TRANSPARENT), max_size=3))
def test_a_signature_that_does_not_take_one_config_is_refused(fn: Any, is_partial: bool, wrappers: Any) -> None:
    words, name = SIGNATURES[fn], fn.__name__
    for wrap in [functools.partial, *wrappers] if is_partial else wrappers:
        fn = wrap(fn)
    if not words:
        Experiment(fn)
        return
    with pytest.raises(ConfigError) as refused:
        Experiment(fn)
    assert name in str(refused.value) or is_partial  # which has no name
    assert re.search(re.escape(words).replace(r"\(\.\*\)", ".*"), str(refused.value))


def test_a_wrapper_may_fill_in_what_its_function_takes_and_what_hides_its_signature_may_pass() -> None:
    @functools.wraps(too_many)
    def wrapper(config: Any) -> Any:
        return too_many(config, 1)

    for fn in (wrapper, functools.partial(too_many, x=1), functools.partial(by_name, x=1), len, print):
        assert Experiment(fn).fn is fn


@pytest.mark.parametrize("kind", [int, type("Trainer", (), {"__init__": lambda self, config: None})])
def test_a_class_is_no_experiment(kind: Any) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__!r} is a class; decorate a function that makes one"):
        Experiment(kind)


def test_what_is_no_experiment_is_an_error_of_the_line_that_decorates_it(tmp_path: Path) -> None:
    write(tmp_path, "import pyexp\n@pyexp.experiment\nasync def train(config):\n    return 1\ntrain.run([{}])\n")
    done = go(tmp_path)
    assert done.returncode == 1
    assert "line 2, in <module>" in done.stderr
    assert "ConfigError: the experiment 'train' is an async function, and calling it runs nothing;" in done.stderr


SCRIPT = """
import pyexp
@pyexp.experiment(executor="inline", timestamp="t", durable=False)
def train(config):
    if config.x == "raise":
        raise ValueError
    if config.x != "none":
        return config.x
train.run([{"name": str(i), "x": x} for i, x in enumerate(VALUES)], report=lambda results: None)
"""
FORGOTTEN = "every result is None: did the function forget to return it?\n"


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        (["none", "none"], True),
        (["none", "raise"], True),
        (["none", 0], False),
        (["raise"], False),
        ([{}], False),
        ([{"value": None}], False),
    ],
)
def test_a_run_whose_results_are_all_none_says_so(tmp_path: Path, values: list[Any], is_said: bool) -> None:
    write(tmp_path, SCRIPT.replace("VALUES", repr(values)))
    assert (FORGOTTEN in go(tmp_path).stderr) is is_said
    assert FORGOTTEN not in go(tmp_path, "-q", "--rerun").stderr
