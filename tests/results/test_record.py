"""A record is plain data, and comes back from it as it was."""

import datetime as dt
import json
import math
import random
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyrsistent import pmap

from pyexp import HashError, NotLoaded, ResultError, config_hash
from pyexp.configs import freeze, freeze_value
from pyexp.results import FORMAT, Attempt, Record, done, from_json, missing, plain, record_of, restored, to_json
from pyexp.testing.strategies import CONFUSABLE, configs, names, values
from pyexp.worker.outcome import failed

#: Values that are equal to themselves by their repr. Leaves out arrays, and all that takes a class.
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
LEAVES |= st.sampled_from([PurePosixPath("/a/b"), Path("/a/b"), range(1, 10, 3), frozenset({1}), Decimal("0.50"), ...])
LEAVES |= st.datetimes(timezones=st.none() | st.just(dt.UTC)) | st.dates() | st.timedeltas() | st.uuids()
EXACT = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.sampled_from(["a", "b", "!", "value"]), inner, max_size=3)
    | st.sets(st.integers() | st.text(), max_size=3),
    max_leaves=8,
)  # fmt: skip


def through_json(data: Any) -> Any:
    """The data written as strict JSON and read again."""
    return json.loads(json.dumps(data, allow_nan=False))


def outcomes() -> st.SearchStrategy[dict[str, Any]]:
    """How a call may end: with a mapping, with anything else, or with an error."""
    outputs = st.dictionaries(st.text(max_size=4), EXACT, max_size=3)
    return st.builds(done, outputs | EXACT, st.just(["module:Name"])) | st.builds(
        lambda text: failed(ValueError(text)), st.text()
    )


def records() -> st.SearchStrategy[Record]:
    attempts = st.lists(st.builds(Attempt, st.text(), st.text(), st.floats(0, 1e9), st.floats(0, 1e9)), max_size=2)
    config = st.dictionaries(st.sampled_from(["a", "b", "!"]), EXACT, max_size=3).map(freeze)
    return st.builds(
        lambda name, config, outcome, tries, at: record_of(
            name, config, "abc", outcome, started=at, seconds=1.5, attempts=tuple(tries), host="h", executor="E"
        )._replace(stamp=(1, 2), seal="7:0a"),
        names(), config, outcomes(), attempts, st.floats(0, 1e9),
    )  # fmt: skip


def same(left: Any, right: Any) -> bool:
    """Whether two records are one, where NaN equals itself and -0.0 is not 0.0."""
    return repr(normal(left)) == repr(normal(right))


def normal(value: Any) -> Any:
    if isinstance(value, Record):
        return [
            (name, normal(getattr(value, name))) for name in Record.__slots__ if name != "stamp" or not value.failed
        ]
    if hasattr(value, "items"):
        return sorted((key, normal(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)) or type(value).__name__ == "PSet":
        return "set", sorted(map(repr, value))
    if isinstance(value, (list, tuple)) or type(value).__name__.endswith("Vector"):
        return type(value).__name__, [normal(item) for item in value]
    return value


@given(records())
def test_a_record_survives_its_json_form(record: Record) -> None:
    data = to_json(record)
    assert same(from_json(through_json(data)), record)
    assert same(from_json(through_json(data), record.config), record)


@given(EXACT)
@example(-0.0)
@example(math.nan)
@example(-math.inf)
@example(1 << 70)
@example("\ud800")
@example({"!": "tuple", "value": [1]})
@example({"!": {"!": 1}})
@example((1, [(), ()]))
@example({frozenset()})
def test_plain_data_is_restored_as_it_was(value: Any) -> None:
    frozen = freeze(value)
    assert repr(normal(restored(through_json(plain(frozen))))) == repr(normal(frozen))


@given(values())
def test_whatever_a_config_holds_there_is_strict_json_of_it(value: Any) -> None:
    restored(through_json(plain(freeze_value(value))))


@pytest.mark.parametrize("number", range(len(CONFUSABLE)))
def test_there_is_strict_json_of_every_kind_of_leaf(number: int) -> None:
    for value in CONFUSABLE[number]:
        restored(through_json(plain(freeze({"x": [value]}))))


@given(configs(named=False))
def test_the_json_of_a_config_does_not_depend_on_the_order_of_its_keys(config: dict[str, Any]) -> None:
    items = list(config.items())
    random.Random(0).shuffle(items)
    assert json.dumps(plain(freeze(dict(items)))) == json.dumps(plain(freeze(config)))


@given(EXACT)
def test_a_restored_value_has_the_hash_that_it_had(value: Any) -> None:
    back = restored(through_json(plain(freeze_value(value))))
    assert config_hash({"x": back}) == config_hash({"x": value})


class Foreign:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_of_what_is_foreign_the_repr_is_kept_if_there_is_one() -> None:
    back = restored(through_json(plain(Foreign())))
    assert back == NotLoaded("unknown", f"{__name__}.Foreign", "<no repr>")
    with pytest.raises(HashError, match=r"^config.a is <.*Foreign <no repr>, not loaded>, which stands for"):
        config_hash({"a": back})


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"format": "x"},
        {"format": 1, "error": 3},
        {**to_json(missing("a", pmap(), "h", "why")), "host": 3},
        {**to_json(missing("a", pmap(), "h", "why")), "attempts": [{}]},
    ],
)
def test_what_is_no_record_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ResultError, match="not a record of pyexp"):
        from_json(data)


def test_a_record_of_a_newer_format_is_refused() -> None:
    with pytest.raises(ResultError, match=f"format {FORMAT + 1}"):
        from_json({**to_json(missing("a", pmap(), "h", "why")), "format": FORMAT + 1})


def test_a_missing_cell_is_an_error_that_says_why() -> None:
    record = missing("a", pmap(), "h", "why")
    assert (record.failed, record.status, record.type, record.message) == (True, "new", "NotRun", "why")
    assert not record._replace(status="done").failed


@pytest.mark.parametrize("code", [{"hash": 3, "parts": {}}, {"hash": "a", "parts": {"f": 1}}, {"hash": "a"}, [1]])
def test_a_fingerprint_that_holds_anything_but_text_makes_no_record(code: Any) -> None:
    record = record_of("a", freeze({"name": "a"}), "abc", done(1, []), code={"hash": "x", "parts": {"main.f": "y"}})
    assert from_json(to_json(record)).code == {"hash": "x", "parts": {"main.f": "y"}}
    with pytest.raises(ResultError):
        from_json({**to_json(record), "code": code})
