"""A chart as a picture, from the command line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import UsageError
from pyexp.look.charts import dimension
from pyexp.look.plots import asked
from tests.cli.scripts import go, write

pytest.importorskip("vl_convert", reason="needs the extra [html]")
pytest.importorskip("itables", reason="needs the extra [html]")

LR, WIDTH, SEED = (dimension(name, [1, 2]) for name in ("lr", "width", "seed"))


def test_the_command_line_draws_a_picture_and_says_where(tmp_path: Path) -> None:
    write(tmp_path)
    done = go(tmp_path, "--plot", "accuracy", "-q", "fixed=True")
    path = Path(done.stdout.splitlines()[-1].removeprefix("plot: "))
    assert path.name == "plot-accuracy-lr.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    by_seed = go(tmp_path, "--report", "--plot", "accuracy:seed,lr", "-q", "fixed=True")
    assert by_seed.stdout.splitlines()[-1].endswith("plot-accuracy-seed-lr.png")
    for word, hint in {"acuracy": "did you mean 'accuracy'?", "accuracy:sed": "did you mean 'seed'?"}.items():
        wrong = go(tmp_path, "--report", "--plot", word, "-q", "fixed=True")
        assert wrong.returncode == 2
        assert wrong.stderr.endswith(f"{hint}\n")
        assert wrong.stdout.startswith("name"), "the report is not lost"
    path.unlink()
    path.mkdir()
    full = go(tmp_path, "--report", "--plot", "accuracy", "-q", "fixed=True")
    assert (full.returncode, "the plot could not be written" in full.stderr) == (2, True)


def test_without_axes_those_are_taken_that_do_not_repeat_the_experiment() -> None:
    assert asked("a", ["a"], [SEED, LR, WIDTH]) == ("a", [LR, WIDTH])
    assert asked("a", ["a"], [SEED]) == ("a", [SEED])


@given(st.lists(st.text(":,a", min_size=1, max_size=4), unique=True, min_size=1))
def test_an_output_is_found_by_its_name_whatever_is_in_it(outputs: list[str]) -> None:
    for output in outputs:
        assert asked(output, outputs, [LR]) == (output, [LR])
        if f"{output}:lr" not in outputs:
            assert asked(f"{output}:lr", outputs, [LR, WIDTH]) == (output, [LR])


@pytest.mark.parametrize("wanted", ["b", "a:x", "a:lr,lr", "a:lr,width,seed", "a:lr,", "b:lr"])
def test_what_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="--plot is"):
        asked(wanted, ["a"], [LR, WIDTH, SEED])


def test_a_single_cell_has_no_chart() -> None:
    with pytest.raises(UsageError, match="there is no axis to draw it over: a plot needs two cells or more"):
        asked("a", ["a"], [])
