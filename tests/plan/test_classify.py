"""What is seen of a cell has one meaning, and only the facts make it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyexp.configs import freeze
from pyexp.hashing import encode
from pyexp.leaves import NotLoaded
from pyexp.plan import POLICY, Action, Cell, Facts, Mode, Status, after_claim, classify, explained, step_of
from pyexp.results import Record, plain, restored
from pyexp.testing.strategies import Colour, Point, first

CELL = Cell(freeze({"name": "exp"}), "exp", "abc", "exp-abc")


def records() -> st.SearchStrategy[Record | None]:
    """No record, or one of a cell that finished or failed at a drawn time."""
    made = st.builds(
        lambda status, started, message: Record(
            "exp", CELL.config, "abc", status, type="E", message=message, started=started
        ),
        st.sampled_from(["done", "failed"]),
        st.floats(0, 3),
        st.sampled_from(["", "two\nlines", "{}"]),
    )
    return st.none() | made


def facts() -> st.SearchStrategy[Facts]:
    """Facts that may be seen together."""
    return st.builds(
        Facts,
        there=st.sampled_from(["", "folder", "something else"]),
        record=records(),
        stamp=st.sampled_from([(), (1, 2), (3, 4)]),
        fits=st.booleans(),
        fault=st.sampled_from(["", "its checksum is wrong"]),
        ended=st.sampled_from(["", "at 12:03"]),
        holder=st.sampled_from(["", "(process 7 on a)"]),
        owner=st.sampled_from(["", "", "bob"]),
        difference=st.sampled_from(["", "helper.f changed"]),
        default=st.sampled_from(["", "", "dropout was 0.0, and is 0.5"]),
    )


@given(facts())
def test_a_cell_is_done_if_there_is_a_result_that_can_be_used_and_no_failure(seen: Facts) -> None:
    failed = seen.record is not None and seen.record.failed
    usable = seen.there == "folder" and bool(seen.stamp) and not seen.fault and not failed
    usable = usable and not (seen.holder or seen.owner or seen.default)
    status = classify(seen).status
    assert (status in (Status.DONE, Status.CHANGED)) == usable
    assert (status is Status.CHANGED) == (usable and bool(seen.difference))


@given(facts())
def test_a_claimed_cell_is_busy_whatever_else_is_there(seen: Facts) -> None:
    assert (classify(seen).status is Status.BUSY) == bool(seen.holder)


@given(facts())
def test_what_another_user_owns_is_neither_loaded_nor_run(seen: Facts) -> None:
    found = classify(seen)
    if seen.owner and not seen.holder:
        assert found.status is Status.FOREIGN
        assert f"--trust-owner {seen.owner}" in str(found.detail)
        assert {POLICY[found.status, mode][0] for mode in Mode} == {Action.MISSING}


@given(facts())
def test_what_is_wrong_is_in_the_words(seen: Facts) -> None:
    found = classify(seen)
    if found.status is Status.UNFINISHED and seen.there == "folder" and seen.default:
        assert seen.default in str(found.detail)
    elif found.status is Status.UNFINISHED and seen.there == "folder" and seen.stamp:
        assert seen.fault in str(found.detail)
    if found.status is Status.FAILED:
        assert seen.record is not None
        assert str(found.detail).endswith(f"with E: {seen.record.message}".partition("\n")[0])


@given(facts(), facts(), st.sampled_from([Mode.RUN, Mode.RERUN, Mode.FAILED]))
def test_a_cell_that_another_process_ran_meanwhile_is_loaded_in_every_mode(seen: Facts, now: Facts, mode: Mode) -> None:
    now = now._replace(holder="")  # this process has claimed it
    found = classify(now)
    ended = seen.version != now.version and found.status in (Status.DONE, Status.CHANGED, Status.FAILED)
    step = after_claim(step_of(CELL, classify(seen), mode), seen, now, mode)
    assert step.action is (Action.LOAD if ended else POLICY[found.status, mode][0])


@given(facts())
def test_a_record_needs_repair_unless_it_is_that_of_the_very_file(seen: Facts) -> None:
    very: Any = seen.record is not None and seen.fits and seen.record.stamp == seen.stamp
    assert seen.needs_repair is not very


@given(st.lists(st.tuples(st.sampled_from([1, 1.0, True, "1"]), st.sampled_from([None, 2])), min_size=1, max_size=4))
def test_the_nearest_finished_config_is_the_one_that_differs_in_the_fewest_keys(rows: list[tuple[Any, Any]]) -> None:
    finished = [freeze({"name": f"f{i}", "a": a, "b": b, "c": i}) for i, (a, b) in enumerate(rows)]
    new = Cell(freeze({"name": "new", "a": 1, "b": 2, "c": 0}), "new", "h", "new-h")
    known = Cell(freeze({"name": "old", "a": 1}), "old", "o", "old-o")
    told = explained([new, known], {"old-o": classify(Facts("folder", stamp=(1,)))}, finished)
    assert list(told) == ["new-h"]
    differing = [sum(encode(config[key]) != encode(new.config[key]) for key in "abc") for config in finished]
    nearest = min(range(len(rows)), key=differing.__getitem__)
    words = str(told["new-h"].detail)
    assert words.startswith(f"(nearest: {finished[nearest]['name']}, differs in ")
    if not differing[nearest]:
        assert words.endswith("differs in its name, which is part of the hash)")
    assert explained([new], {}, []) == {}


def test_a_key_that_a_config_lacks_has_its_default_when_configs_are_compared() -> None:
    new = Cell(freeze({"name": "n", "a": 1, "b": {"c": 0.0}}), "n", "h", "n-h")
    finished = [freeze({"name": "f", "a": 1})]
    told = explained([new], {}, finished, freeze({"b.c": 0.0}, "defaults"))
    assert str(told["n-h"].detail) == "(nearest: f, differs in its name, which is part of the hash)"
    told = explained([new], {}, finished, freeze({"b.c": 1.0}, "defaults"))
    assert str(told["n-h"].detail) == "(nearest: f, differs in b.c: 1.0 → 0.0)"


def test_more_differences_than_are_shown_are_counted() -> None:
    new = Cell(freeze({"name": "n", **dict.fromkeys("abcde", 1)}), "n", "h", "n-h")
    told = explained([new], {}, [freeze({"name": "f", "e": 2})])
    assert str(told["n-h"].detail) == (
        "(nearest: f, differs in a: absent → 1, b: absent → 1, c: absent → 1 and 2 more)"
    )


def test_a_difference_is_named_also_where_python_does_not_spell_a_number() -> None:
    new = Cell(freeze({"name": "n", "a": 10**5000}), "n", "h", "n-h")
    told = explained([new], {}, [freeze({"name": "f", "a": 1})])
    assert str(told["n-h"].detail).startswith("(nearest: f, differs in a: 1 → 0x")


def test_how_a_cell_ended_is_said_in_words() -> None:
    failed = Record("exp", CELL.config, "abc", "failed", type="E", message="no")
    assert str(classify(Facts("folder", failed, ended="at 12:03")).detail) == "at 12:03 with E: no"
    other = Facts("folder", stamp=(1, 2), fits=True, ended="at 12:03", difference="helper.f changed")
    assert str(classify(other).detail) == "at 12:03, by other code: helper.f changed"


class Shy(Point):
    def __repr__(self) -> str:
        raise AttributeError("later")


def test_a_value_that_cannot_be_shown_is_named_all_the_same() -> None:
    cell = CELL._replace(config=freeze({"name": "n", "a": Shy(1)}))
    told = explained([cell], {}, [freeze({"name": "f", "a": 1})])[cell.folder]
    assert str(told.detail) == "(nearest: f, differs in a: 1 → <no repr>)"


def test_a_config_that_was_not_loaded_is_compared_by_what_it_names() -> None:
    config = {"name": "f", "colour": Colour.ONE, "at": Point([first]), "lr": 0.1}
    read = restored(plain(freeze(config)))
    assert isinstance(read["colour"], NotLoaded)
    cell = CELL._replace(config=freeze({**config, "lr": 0.2}))
    told = explained([cell], {}, [freeze(read)])[cell.folder]
    assert str(told.detail) == "(nearest: f, differs in lr: 0.1 → 0.2)"
