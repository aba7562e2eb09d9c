"""A Result is a read-only mapping of the experiment's outputs, which loads the value when it has to."""

import json
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyexp import Config, Result, ResultError, Results, Tensor
from pyexp.configs import freeze
from pyexp.results import done, from_json, missing, record_of, to_json
from pyexp.tables import table
from pyexp.worker.outcome import failed

CONFIG = freeze({"name": "exp", "mlp": {"width": 64}})
OUT = Path("/out/exp-abc")


def refuse() -> Any:
    raise AssertionError("the value was loaded")


def result_of(value: Any, load: Callable[[], Any] | None = None) -> Result:
    """The result of an experiment that returned the value."""
    record = record_of("exp", CONFIG, "abc", done(value, []))
    return Result(record, OUT, partial(_same, value) if load is None else load)


def _same(value: Any) -> Any:
    return value


def failure() -> Result:
    return Result(record_of("exp", CONFIG, "abc", failed(ValueError("boom"))), OUT, refuse)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
OUTPUTS = st.dictionaries(
    st.sampled_from(["accuracy", "loss", "name", "config", "value", "type", "record", "x y", "0"]),
    SCALARS | st.lists(SCALARS, max_size=2),
)


@given(OUTPUTS)
def test_outputs_are_side_by_side_with_name_config_and_out_which_win(outputs: dict[str, Any]) -> None:
    result = result_of(outputs)
    own = {"name": "exp", "config": Config({"name": "exp", "mlp": {"width": 64}}), "out": OUT}
    assert dict(result) == {**outputs, **own}
    assert len(result) == len(list(result)) == len(set(result))
    assert result.value == outputs


@given(OUTPUTS)
def test_it_is_a_mapping_in_every_way_that_a_dict_is(outputs: dict[str, Any]) -> None:
    result = result_of(outputs)
    whole = dict(result)
    assert result == whole
    assert result == result_of(outputs)
    assert list(result.items()) == list(whole.items())
    assert all(key in result for key in whole)
    assert result.get("nothing", 3) == 3
    assert "nothing" not in result
    assert result != 3
    assert result != {}


@given(OUTPUTS.filter(bool))
def test_scalar_outputs_are_there_without_loading(outputs: dict[str, Any]) -> None:
    result = result_of(outputs, refuse)
    for key, value in outputs.items():
        if not isinstance(value, list) and key not in ("name", "config"):
            assert (result[key], type(result[key])) == (value, type(value))
    assert (result.name, result.config.mlp.width, result.out) == ("exp", 64, OUT)
    assert result.get("__error__") is None
    assert "exp" in repr(result)


def test_what_is_no_scalar_is_loaded_once() -> None:
    loads = []

    def load() -> dict[str, Any]:
        loads.append(1)
        return {"weights": [1, 2], "loss": 0.5}

    result = result_of({"weights": [1, 2], "loss": 0.5}, load)
    assert result["loss"] == 0.5
    assert not loads
    assert (result["weights"], result.weights, result.value["loss"]) == ([1, 2], [1, 2], 0.5)
    assert len(loads) == 1


NUMPY_TYPES = [*"?bhilqBHILQefd", "M8[D]", "M8[s]", "M8[ns]", "M8[25ps]", "m8", "m8[Y]", "m8[2ns]", "m8[us]"]


@st.composite
def numpy_scalars(draw: st.DrawFn) -> Any:
    """NumPy scalars of any bits: each NaN, NaT, unit and end of a range. Leaves out what no record holds."""
    dtype = np.dtype(draw(st.sampled_from(NUMPY_TYPES)))
    if dtype.kind == "b":
        return np.bool_(draw(st.booleans()))
    top = 2 ** (8 * dtype.itemsize) - 1
    # NaNs of either sign, quiet and signalling; the ends of the integers; NaT and a date of nanoseconds.
    special = [0, 1, 2, top, top - 1, top // 2, top // 2 + 1]
    bits = draw(st.integers(0, top) | st.sampled_from([*special, 1577836800000000000 & top]))
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)[()]


@pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")  # a time without a unit, as of NumPy 2.5
@given(numpy_scalars() | st.text(max_size=5).map(np.str_))
@example(np.uint64(2**64 - 1))
@example(np.float64(math.inf))
@example(-np.float64(math.nan))
@example(np.float32(0.1))
@example(np.datetime64("NaT", "ns"))
@example(np.timedelta64("NaT", "us"))
@example(np.datetime64("NaT", "D"))
@example(np.longlong(1))
@example(np.str_("\ud800"))
def test_a_numpy_scalar_of_the_record_has_the_type_and_bits_that_it_has_from_the_pickle(value: Any) -> None:
    record = record_of("exp", CONFIG, "abc", done({"x": value}, []))
    read = from_json(json.loads(json.dumps(to_json(record))))
    expected = pickle.loads(pickle.dumps(value))
    if value.dtype.kind in "mM" and np.isnat(value):  # otherwise a table would have it, and no other time of the unit
        assert ("x" in record.outputs) == ("x" in done({"x": np.zeros(1, value.dtype)[0]}, [])["outputs"])
    if "x" not in record.outputs:  # a date or a duration of Python's
        assert isinstance(np.zeros(1, value.dtype)[0].item(), (date, timedelta))
        return
    for known in (record, read):
        made = Result(known, OUT, refuse)["x"]
        assert (type(made), made.dtype, made.tobytes()) == (type(expected), expected.dtype, expected.tobytes())


def test_without_numpy_a_numpy_scalar_is_the_plain_number(monkeypatch: pytest.MonkeyPatch) -> None:
    result = result_of({"x": np.float32(0.5), "flag": np.bool_(True)}, refuse)
    assert type(result["x"]) is np.float32
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert (type(result["x"]), result["x"], result.flag) == (float, 0.5, True)


def test_what_a_record_does_not_hold_exactly_is_loaded() -> None:
    """An array without dimensions, and a time of an older pyexp, whose record lacks the unit."""
    value = {"array": np.array(0.5), "time": np.datetime64(1, "ns")}
    result = result_of(value)
    assert type(result["array"]) is np.ndarray
    record = result.record._replace(kinds={"array": "numpy.ndarray", "time": "numpy.datetime64"})
    assert record.outputs == {"array": 0.5, "time": 1}
    assert Result(record, OUT, partial(_same, value))["time"] == value["time"]


@pytest.mark.parametrize("value", [3, None, [1, 2], "text", {1: 2}])
def test_a_result_that_is_no_mapping_by_name_is_under_value(value: Any) -> None:
    result = result_of(value)
    assert (result["value"], result.value, dict(result)["value"]) == (value, value, value)


def test_a_failure_has_its_error_and_no_outputs() -> None:
    result = failure()
    assert result["__error__"] is True
    assert (result["type"], result["message"], result.type, result.message) == ("ValueError", "boom") * 2
    assert "ValueError: boom" in result["traceback"]
    assert set(result) == {"name", "config", "out", "__error__", "type", "message", "traceback"}
    assert repr(result) == "<Result 'exp' failed with ValueError: boom>"


def test_what_a_failure_has_not_is_an_error_that_tells_the_failure() -> None:
    for look in (lambda: failure()["accuracy"], lambda: failure().accuracy, lambda: failure().value):
        with pytest.raises(ResultError, match="'exp' failed with ValueError: boom"):
            look()


def test_an_unknown_output_is_an_error_that_names_the_nearest() -> None:
    for look in (lambda: result_of({"accuracy": 1})["acuracy"], lambda: result_of({"accuracy": 1}).acuracy):
        with pytest.raises(ResultError, match="did you mean 'accuracy'"):
            look()
    assert not hasattr(result_of({"accuracy": 1}), "__array__")


def test_the_config_of_a_result_is_a_private_copy() -> None:
    result = result_of({})
    result.config.mlp.width = 0
    assert result.record.config == CONFIG


def test_a_result_cannot_be_changed_or_hashed() -> None:
    result: Any = result_of({"x": 1})
    with pytest.raises(TypeError):
        result["x"] = 2
    with pytest.raises(AttributeError):
        result.x = 2
    with pytest.raises(TypeError):
        hash(result)


def test_results_are_equal_by_value_arrays_and_nan_too() -> None:
    """As Tensors and queries compare: array by array, NaN as itself."""
    one, same, other = (result_of({"w": np.arange(n), "x": [float("nan")]}) for n in (3, 3, 4))
    assert one == same == dict(one)
    assert one != other
    assert one != {**one, "x": 0.0}
    assert one != 3
    assert Tensor([one]) == Tensor([same]) == pickle.loads(pickle.dumps(Tensor([one])))


def test_keys_are_attributes_also_those_with_underscores() -> None:
    assert failure().__error__ is True
    result = result_of({"_private": 1, "_load": 2})
    assert result._private == 1
    assert result["_load"] == 2
    assert callable(result._load)
    for name in ("__error__", "__array__", "_repr_html_"):
        assert not hasattr(result, name)


def test_an_output_that_is_called_as_the_mark_of_failures_is_in_the_value_only() -> None:
    result = result_of({"__error__": True, "x": 1})
    assert not result.get("__error__")
    assert list(result) == ["name", "config", "out", "x"]
    assert result.value == {"__error__": True, "x": 1}


def test_ints_that_python_does_not_spell_in_decimal_are_shown_all_the_same() -> None:
    result = result_of({"n": 10**5000, "m": 10**400})
    assert "n=0x31e2" in repr(result)
    assert "0x31e2" in str(Results([result]))
    assert "0x31e2" in table(Results([result]), 80, 24)  # on a terminal
    assert "m=1000" in repr(result)


@dataclass
class Model:
    width: int
    seen: list[int] = field(default_factory=list)
    late: int = field(init=False)


@attrs.define
class Fitted:
    seen: list[int] = attrs.Factory(list)


@dataclass(init=False)
class Bare:
    seen: int


@dataclass
class Own:
    seen: int

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("kind", [partial(Model, 1), Fitted])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda part: part,
        lambda part: [1, (part,)],
        lambda part: {"a": {"b": part}},
        Model,
        lambda part: partial(id, part),
    ],
)
def test_an_output_of_a_class_that_got_a_field_is_refused_by_name(kind: Any, wrap: Callable[[Any], Any]) -> None:
    """The instance is from before that. Other outputs are there, and the value as a whole."""
    whole, old = wrap(kind()), kind()
    del old.seen
    cycle: list[Any] = [old]
    cycle.append(cycle)
    value = {
        "whole": whole,
        "old": wrap(old),
        "own": {"a": Own(), "b": Bare()},
        "curve": [1],
        "cycle": cycle,
        "set": {Model},
    }
    record = record_of("exp", CONFIG, "abc", done(value, ["test_result:Model"]))
    result = Result(record, OUT, lambda: value)
    words = rf"^the result of 'exp' cannot be loaded again: 'old' holds a .*\.{type(old).__name__} that lacks .seen."
    with pytest.raises(ResultError, match=words):
        result["old"]
    with pytest.raises(ResultError, match="lacks 'seen'"):
        result["cycle"]
    assert all(result[key] is value[key] for key in ("whole", "own", "curve", "set"))
    assert result.value is value


def test_completion_knows_the_outputs() -> None:
    assert {"accuracy", "name", "record"} <= set(dir(result_of({"accuracy": 1, "not one": 2})))
    assert "not one" not in dir(result_of({"not one": 2}))


@given(OUTPUTS)
def test_a_result_survives_a_pickle(outputs: dict[str, Any]) -> None:
    result = result_of(outputs)
    assert pickle.loads(pickle.dumps(result)) == result


def test_results_are_selected_by_config_and_by_output_without_loading() -> None:
    results = Tensor([result_of({"loss": 0.5, "many": []}, refuse), failure()])
    assert results[{"loss": 0.5}].shape == (1,)
    assert results[{"config.mlp.width": 64}].shape == (2,)
    assert results[{"config": {"mlp": {"width": 64}}}].shape == (2,)
    assert results[{"__error__": True}].item() is results[1]
    assert results[{"type": "ValueError"}].item() is results[1]
    assert results[{"name": "exp"}].size == 2
    frozen = results[0].frozen
    assert (set(frozen), len(frozen)) == ({"name", "config", "out", "loss", "many"}, 5)


def test_a_missing_cell_has_an_error_of_type_not_run() -> None:
    result = Result(missing("exp", CONFIG, "abc", ""), OUT, refuse)
    assert (result["type"], repr(result)) == ("NotRun", "<Result 'exp' has no result>")


def test_why_a_value_cannot_be_loaded_is_told_by_every_way_to_it() -> None:
    def damaged() -> Any:
        raise ResultError("the file is damaged")

    result = result_of({"weights": [1]}, damaged)
    assert ("weights" in result, "loss" in result) == (True, False)  # it has the output all the same
    for look in (lambda: result.value, lambda: result.weights, lambda: result["weights"]):
        with pytest.raises(ResultError, match="the file is damaged"):
            look()


def test_outputs_are_in_the_order_in_which_the_experiment_gave_them() -> None:
    keys = [f"output {i}" for i in range(20)]
    assert [key for key in result_of({key: [1] for key in keys}) if key in keys] == keys
    assert list(result_of(dict.fromkeys(keys, 1)).record.outputs) == keys
