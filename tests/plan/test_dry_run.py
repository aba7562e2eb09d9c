"""What the plan says is exactly what the next run does: on real folders, in any state that cells can be left in."""

import importlib
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyexp
from pyexp import (
    Action,
    Config,
    ConfigError,
    Experiment,
    Plan,
    Status,
    StoreError,
    UsageError,
    experiment,
    sample,
    sweep,
)
from pyexp.store import claims
from pyexp.store.layout import CLAIMS, RECORD, RESULT, RUN

#: The names of the cells that ran, and of those that are to fail.
RAN: list[str] = []
FAILING: set[str] = set()


def work(config: Config) -> dict[str, Any]:
    RAN.append(config.name)
    if config.name in FAILING:
        raise ValueError("boom")
    return {"x": config.x, "many": [config.x]}


def leave(state: str, folder: Path) -> None:
    """Bring a cell's folder, in which it has run, into a state."""
    result, record = folder / RESULT, folder / RECORD
    if state == "emptied":
        for path in folder.iterdir():
            path.unlink()
    elif state == "result gone":
        result.unlink(missing_ok=True)
    elif state == "record gone":
        record.unlink(missing_ok=True)
    elif state == "truncated" and result.exists():
        result.write_bytes(result.read_bytes()[:-3])
    elif state == "flipped" and result.exists():
        content = bytearray(result.read_bytes())
        content[len(content) // 2] ^= 1
        result.write_bytes(content)


STATES = ["new", "done", "failed", "emptied", "result gone", "record gone", "truncated", "flipped"]
MODES: list[dict[str, Any]] = [{}, {"rerun": True}, {"last_failed": True}, {"select": "c[01]"}]


def planned(made: Plan, *actions: Action) -> list[str]:
    return [step.name for step in made.steps if step.action in actions]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(STATES), min_size=1, max_size=4), st.sampled_from(MODES), st.booleans())
def test_the_next_run_runs_exactly_what_the_plan_says(states: list[str], mode: dict[str, Any], fail: bool) -> None:
    configs = [{"name": f"c{i}", "x": i} for i in range(len(states))]
    with TemporaryDirectory() as out:
        options: dict[str, Any] = {"timestamp": "t", "output_dir": out, "quiet": True, "durable": False}
        trial = Experiment(work, executor="inline", **options)
        FAILING.clear()
        FAILING.update(f"c{i}" for i, state in enumerate(states) if state == "failed")
        started = [config for config, state in zip(configs, states, strict=True) if state != "new"]
        if started:
            trial.run(started, report=list, argv=[])
        else:
            Path(out, "work", "t").mkdir(parents=True)
        for folder in Path(out, "work", "t").glob("c[0-9]*"):
            leave(states[int(folder.name[1])], folder)
        FAILING.clear()
        FAILING.update(["c0"] if fail else [])
        before = sorted((str(path), path.stat().st_mtime_ns) for path in Path(out).rglob("*"))
        said = trial.plan(configs, **mode)
        assert before == sorted((str(path), path.stat().st_mtime_ns) for path in Path(out).rglob("*"))
        RAN.clear()
        results = trial.run(configs, report=lambda results: results, argv=[], **mode)
        assert planned(said, Action.RUN) == RAN
        assert [result.name for result in results] == [step.name for step in said.steps]
        for step, result in zip(said.steps, results, strict=True):
            assert (
                result.record.status
                == {
                    Action.SKIP: "new",
                    Action.LOAD: "done",
                    Action.RUN: "failed" if step.name in FAILING else "done",
                }[step.action]
            )
        left = planned(trial.plan(configs, select=mode.get("select")), Action.RUN)
        assert set(left) == set(FAILING) & set(RAN) | set(planned(said, Action.SKIP))


def test_a_cell_that_another_process_has_is_waited_for_and_says_who_has_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"timestamp": "t", "output_dir": tmp_path, "quiet": True}
    trial = Experiment(work, executor="inline", **options)
    FAILING.clear()
    trial.run([{"name": "c0", "x": 0}], report=list, argv=[])
    (step,) = trial.plan([{"name": "c1", "x": 1}]).steps
    held = claims.claim(str(tmp_path / "work" / "t" / CLAIMS), step.cell.folder)
    assert held is not None
    try:
        (step,) = trial.plan([{"name": "c1", "x": 1}]).steps
        assert step.action is Action.WAIT
        assert f"process {os.getpid()} on " in step.reason
    finally:
        held.release()


def test_what_is_printed_is_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Experiment(work, executor="inline", output_dir=tmp_path)
    configs = [{"name": "c0", "x": 0}, {"name": "c1", "x": 1}]
    for said in ({"argv": ["--dry-run"]}, {"argv": [], "dry_run": True}):
        assert trial.run(configs, **said) is None
        assert capsys.readouterr().out == f"{trial.plan(configs)}\n"
    assert not list(tmp_path.iterdir())


def test_a_run_of_a_newer_format_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    trial = Experiment(work, executor="inline", output_dir=tmp_path, timestamp="t", quiet=True)
    trial.run([{"name": "c0", "x": 0}], report=list, argv=[])
    told = tmp_path / "work" / "t" / RUN
    told.write_text(told.read_text().replace('"format": 2', '"format": 3'))
    for look in (trial.plan, lambda configs: trial.run(configs, argv=[]), lambda _: pyexp.load(told.parent)):
        with pytest.raises(StoreError, match=r"newer pyexp \(its format is 3"):
            look([{"name": "c0", "x": 0}])


@pytest.mark.parametrize(
    "damage",
    [
        {"format": None},
        {"format": "1"},
        {"commands": 5},
        {"commands": None},
        {"commands": [3]},
        {"started": "x"},
        {"cells": 1},
    ],
    ids=str,
)
def test_a_damaged_description_stops_nothing(tmp_path: Path, damage: dict[str, Any]) -> None:
    ran: list[str] = []
    made = experiment(name="e", executor="inline", output_dir=tmp_path, timestamp="t", quiet=True)(
        lambda config: ran.append(config.name)
    )

    def run(configs: list[dict[str, Any]]) -> int:
        made.run(configs=configs, report=lambda results: None, argv=[])
        return len(ran)

    assert run([{"name": "a"}]) == 1
    path = tmp_path / "e" / "t" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    assert run([{"name": "a"}]) == 1
    assert run([{"name": "a"}, {"name": "b"}]) == 2
    assert json.loads(path.read_text())["shape"] == [2]


def test_a_run_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    grid = sweep([{"name": "a", "x": 1}], [{"y": 1}, {"y": 2}])
    made = experiment(name="e", executor="inline", output_dir=tmp_path, quiet=True)(lambda config: None)
    for configs, words in [
        (grid.filter(lambda config: False), "^configs is empty, of shape"),
        (lambda: sample(grid, 0, seed=0), "^what the configs function '<lambda>' returned is empty, of shape"),
    ]:
        with pytest.raises(ConfigError, match=words):
            made.run(configs=configs, argv=[])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("report", [5, "yes", []])
def test_a_report_that_is_none_is_refused_before_anything_runs(tmp_path: Path, report: Any) -> None:
    made = experiment(name="e", executor="inline", output_dir=tmp_path, quiet=True)(lambda config: None)
    with pytest.raises(UsageError, match="it takes a function of the Results, or True"):
        made.run([{"name": "a"}], report, argv=[])
    assert not list(tmp_path.iterdir())


def test_a_module_that_exits_when_it_is_imported_makes_its_results_unreadable_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds_that_exit.py").write_text("class Kind:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    kinds = importlib.import_module("kinds_that_exit")
    made = experiment(name="e", executor="inline", output_dir=tmp_path, timestamp="t", quiet=True)(
        lambda config: kinds.Kind()
    )
    made.run(configs=[{"name": "a"}], report=lambda results: None, argv=[])
    (tmp_path / "kinds_that_exit.py").write_text("raise SystemExit('usage: …')\n")
    monkeypatch.delitem(sys.modules, "kinds_that_exit")
    importlib.invalidate_caches()
    (step,) = made.plan([{"name": "a"}]).steps
    assert (step.status, step.action) == (Status.UNFINISHED, Action.RUN)


def test_a_new_run_says_how_many_of_its_cells_the_latest_has_finished(tmp_path, capsys):
    trial = experiment(name="e", executor="inline", output_dir=tmp_path)(work)
    grid = [{"name": f"x{x}", "x": x} for x in range(4)]
    trial.run(grid, dry_run=True, argv=[])
    assert "finished in" not in capsys.readouterr().err
    trial.run(grid[:3], timestamp="first", argv=[])
    trial.run(grid, dry_run=True, argv=[])
    assert "note: 3 of these cells are finished in first; --continue loads them\n" in capsys.readouterr().err
    trial.run(grid, dry_run=True, timestamp="first", argv=[])
    assert "finished in" not in capsys.readouterr().err
    step = trial.plan(grid, timestamp="first").steps[3]
    assert str(step) == f"run      {step.cell.folder}  (new)"
