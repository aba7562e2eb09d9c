"""What a notebook shows of configs, grids, plans and results: tables that fold, by a real kernel."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import Config, Tensor, sweep
from pyexp.testing.strategies import values
from pyexp.text import html_ends, html_table, short_repr

# The libraries around a kernel warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("default")

DEFINE = """
import pyexp
from pyexp import sweep, replicate

@pyexp.experiment(name="notebook", durable=False, executor="inline", quiet=True)
def experiment(config):
    if config.lr == 3 and config.seed % 2:
        raise ValueError("<b>diverged</b>")
    return {"area": config.lr * 2.0}

grid = replicate(sweep([{"name": "exp"}], [{"name": f"lr{lr}", "lr": lr} for lr in range(10)]), 3, seed=0)
results = experiment.run(grid, argv=[], report=lambda results: results)
"""


def shown(folder: Path, *cells: str) -> list[str]:
    """The HTML that each cell of a notebook shows, run in a kernel of its own."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return ["".join(each.get("data", {}).get("text/html", "") for each in cell["outputs"]) for cell in made["cells"]]


def test_a_kernel_shows_tables(tmp_path: Path) -> None:
    _, results, grid, plan, config, few = shown(
        tmp_path, DEFINE, "results", "grid", "experiment.plan(grid)", "results[0].config", "results[:2]"
    )
    assert results.count("<tr>") == 1 + 20 + 1
    assert "… 10 more" in results
    assert "30 cells: " in results
    assert "<th>lr</th><th>seed</th>" in results
    assert "<b>" not in results
    assert "config.lr" not in results
    assert "lr: 10, seed: 3" in grid
    assert "pmap" not in grid
    assert "<td>lr</td><td>lr</td><td>0, 1, 2, 3, 4, 5, 6, 7, … (10 in all)</td>" in grid
    assert "30 cells: 30 to run" in plan
    assert "<td>lr</td><td>0</td>" in config
    assert few.count("<tr>") == 3


def test_a_kernel_completes_the_keys_of_results_and_configs(tmp_path: Path) -> None:
    define = f"{DEFINE}\none = results[0]\nconfig = one.config"
    cells = [define, *(f"get_ipython().complete(None, {code!r}, {len(code)})[1]" for code in KEYS)]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, key in zip(made["cells"][1:], KEYS.values(), strict=True):
        assert f"'{key}" in cell["outputs"][0]["data"]["text/plain"]


#: What is typed, and a key that completes it.
KEYS = {"results['are": "area", "results['exp_lr0_s": "exp_lr0_seed0", "one['ar": "area", "config['se": "seed"}


def test_a_huge_grid_is_shown_without_being_walked() -> None:
    grid = sweep([{"name": "e"}], [{"name": f"a{i}", "a": i} for i in range(1000)])
    for key in "bcd":
        grid = sweep(grid, [{"name": f"{key}{i}", key: i} for i in range(1000)])
    text = grid._repr_html_()
    assert "… (1000000000000 in all)" in text
    assert len(text) < 10_000


@given(st.lists(values(), max_size=30))
def test_every_tensor_and_config_has_a_table(items: list[Any]) -> None:
    assert Tensor(items)._repr_html_().startswith("<div")
    text = Config({str(i): item for i, item in enumerate(items)})._repr_html_()
    assert text.count("<table>") == 1
    assert text.count("<tr>") >= min(len(items), 1)


def test_what_python_does_not_spell_has_a_name() -> None:
    assert short_repr(10**5000) == "<int>"
    assert "&lt;int&gt;" in Config({"x": 10**5000})._repr_html_()


@given(st.integers(0, 100), st.integers(1, 20))
def test_a_table_folds_in_its_middle(size: int, most: int) -> None:
    positions = html_ends(size, most)
    assert positions == sorted(set(positions))
    assert len(positions) == min(size, 2 * most)
    rows = [[f"at {i}"] for i in positions]
    text = html_table(["<h>"], rows, size, "<caption>")
    assert "<h>" not in text
    assert ("more" in text) == (len(positions) < size)
    if len(positions) < size:
        before, _, after = text.partition(f"… {size - len(positions)} more")
        assert before.count("at ") == after.count("at ") == most
