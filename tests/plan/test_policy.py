"""The plan is a table looked up: what it says follows from statuses and mode, and from nothing else."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap

from pyexp import ConfigError, Tensor, sweep
from pyexp.configs import FrozenConfig, freeze
from pyexp.plan import MOST_CELLS, POLICY, Action, Cell, Found, Mode, Status, cells_of, place, plan, step_of
from pyexp.sweep import grid_of

CELL = Cell(freeze({"name": "exp"}), "exp", "abc", "exp-abc")


def found() -> st.SearchStrategy[Found]:
    """What may be found of a cell, with details of any kind, braces among them."""
    return st.builds(Found, st.sampled_from(Status), st.sampled_from(["", "at 12:03", "with {}: {0} {x}"]) | st.text())


@st.composite
def situations(draw: st.DrawFn) -> tuple[Tensor[Cell], dict[str, Found], Mode]:
    """A grid of cells, what is found of some of them, and a mode."""
    cells = cells_of(sweep([{"x": i} for i in range(draw(st.integers(1, 3)))], [{"y": 1}, {"y": 2}]))
    known = draw(st.dictionaries(st.sampled_from([cell.folder for cell in cells]), found()))
    return cells, known, draw(st.sampled_from(Mode))


def test_every_status_has_a_row_in_every_mode() -> None:
    assert set(POLICY) == set(product(Status, Mode))


#: What each mode promises to do with a cell that is done, failed, unfinished, new, busy, changed, foreign.
PROMISED = {
    Mode.RUN: "load run run run wait load missing",
    Mode.RERUN: "run run run run wait run missing",
    Mode.FAILED: "load run run skip wait load missing",
    Mode.CHANGED: "load run run run wait run missing",
    Mode.REPORT: "load load missing missing missing load missing",
}


@pytest.mark.parametrize("mode", Mode)
def test_each_mode_does_what_it_promises(mode: Mode) -> None:
    assert " ".join(POLICY[status, mode][0].value for status in Status) == PROMISED[mode]


@pytest.mark.parametrize("mode", Mode)
def test_no_mode_but_report_leaves_a_cell_out_and_report_runs_none(mode: Mode) -> None:
    actions = {POLICY[status, mode][0] for status in Status if status is not Status.FOREIGN}
    assert (Action.RUN in actions) == (mode is not Mode.REPORT)
    assert (Action.MISSING in actions) == (mode is Mode.REPORT)


@pytest.mark.parametrize("mode", [Mode.RUN, Mode.FAILED])
def test_a_failure_is_no_hit_and_is_tried_again(mode: Mode) -> None:
    assert POLICY[Status.FAILED, mode][0] is Action.RUN


@given(found(), st.sampled_from(Mode))
def test_a_step_follows_the_table_and_says_what_was_found(seen: Found, mode: Mode) -> None:
    step = step_of(CELL, seen, mode)
    assert (step.cell, step.status, step.action) == (CELL, seen.status, POLICY[seen.status, mode][0])
    assert seen.detail in step.reason
    assert "{}" not in step.reason.replace(seen.detail, "")


@given(situations())
def test_equal_inputs_give_equal_plans(situation: tuple[Tensor[Cell], dict[str, Found], Mode]) -> None:
    cells, known, mode = situation
    once, again = plan(cells, known, mode), plan(cells, dict(reversed(known.items())), mode)
    assert once == again
    assert str(once) == str(again)


@given(situations())
def test_a_plan_has_a_step_for_each_cell_in_the_shape_of_the_grid(
    situation: tuple[Tensor[Cell], dict[str, Found], Mode],
) -> None:
    cells, known, mode = situation
    made = plan(cells, known, mode)
    assert (made.steps.shape, made.steps.axes) == (cells.shape, cells.axes)
    for cell, step in zip(cells, made.steps, strict=True):
        assert step == step_of(cell, known.get(cell.folder, Found(Status.NEW)), mode)


@given(situations())
def test_the_counts_are_those_of_the_steps_and_what_is_printed_has_each_cell(
    situation: tuple[Tensor[Cell], dict[str, Found], Mode],
) -> None:
    made = plan(*situation)
    actions = [step.action for step in made.steps]
    assert made.counts() == {action: actions.count(action) for action in Action if action in actions}
    assert made.works == any(action in (Action.RUN, Action.WAIT) for action in actions)
    assert all(step.cell.folder in str(made) for step in made.steps)
    assert str(made).endswith(made.summary())


@given(situations())
def test_when_all_is_done_there_is_nothing_to_run(situation: tuple[Tensor[Cell], dict[str, Found], Mode]) -> None:
    cells, _, mode = situation
    done = {cell.folder: Found(Status.DONE) for cell in cells}
    assert plan(cells, done, mode).works == (mode is Mode.RERUN)


def test_a_plan_is_selected_from_as_results_are() -> None:
    cells = cells_of(sweep([{"name": "exp"}], [{"name": "a", "lr": 0.1}, {"name": "b", "lr": 0.2}]))
    steps = plan(cells, {cells[1].folder: Found(Status.FAILED)}, Mode.RUN).steps
    assert steps["exp_a"] is steps[0]
    assert steps[{"config.lr": 0.2}].item() is steps[1]
    assert steps[{"status": "failed"}].item().name == "exp_b"
    assert cells[{"lr": 0.2}].item() is cells[1]


def test_a_config_that_holds_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'exp' holds the key 'out'"):
        cells_of(grid_of([{"name": "exp", "out": "here"}]))


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        (grid_of([{"x": 1}, {"x": 2}, {"x": 1}]), r"cells 0 and 2 are the same config"),
        (sweep([{"name": "e"}], [{"x": 1}, {"x": 1}]), r"cells \(0, 0\) and \(0, 1\) are the same config, 'e'.*seed"),
    ],
)
def test_two_cells_of_one_config_are_refused_by_their_places(configs: Tensor[FrozenConfig], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        cells_of(configs)


def test_cells_that_would_share_a_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # No two configs are known whose hashes begin alike: the digest is made a weak one.
    monkeypatch.setattr("pyexp.plan.digest", lambda _: "0" * 12)
    with pytest.raises(ConfigError, match=r"different configs that would share the folder 'exp-000000000000'"):
        cells_of(grid_of([{"name": "exp", "x": 1}, {"name": "exp", "x": 2}]))


def test_a_grid_that_nobody_could_run_is_refused_before_it_is_walked() -> None:
    huge = sweep([{"x": 0}], [{"a": 0}])
    for key in "bcdefghijklm":
        huge = sweep(huge, [{key: i} for i in range(10)])
    assert huge.size > MOST_CELLS
    with pytest.raises(ConfigError, match="sample"):
        cells_of(huge)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_a_place_is_the_index_of_the_position(shape: list[int], data: st.DataObject) -> None:
    items = Tensor(range(_product(shape)), shape)
    position = data.draw(st.integers(0, items.size - 1))
    assert items[place(position, items.shape)] == position


def _product(sizes: list[int]) -> int:
    return sizes[0] * _product(sizes[1:]) if sizes else 1


def test_cells_without_a_name_have_an_empty_one() -> None:
    (cell,) = cells_of(grid_of([{"name": None, "x": 1}]))
    assert (cell.name, cell.folder.startswith("unnamed-"), cell.frozen) == ("", True, pmap({"name": None, "x": 1}))


def test_the_page_of_the_plan_has_the_rows_of_the_policy() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "plan.md").read_text()
    for status in Status:
        (row,) = re.findall(rf"^\| `{status.value}`.*$", page, re.M)
        actions = [cell.strip() for cell in row.strip("| ").split(" | ")[1:]]
        assert actions == [POLICY[status, mode][0].value for mode in Mode]


def test_a_plan_in_a_notebook_has_its_steps_and_its_summary() -> None:
    made = plan(Tensor([CELL, CELL._replace(name="<b>", folder="b-abc")]), {}, Mode.RUN)
    shown = made._repr_html_()
    assert made.summary() in shown
    assert shown.count("<td>new</td><td>run</td><td>new</td>") == 2
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
