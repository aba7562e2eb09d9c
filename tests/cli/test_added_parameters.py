"""A parameter that is added with the value that the code had before keeps what is finished."""

from pathlib import Path

import pytest

import pyexp
from tests.cli.scripts import go

SCRIPT = """
from pyexp import experiment

@experiment(executor="inline", timestamp="t", quiet=True, defaults=DEFAULTS)
def trial(config):
    open("ran.txt", "a").write(config.name + " ")
    return {"dropout": config.get("dropout"), "bias": config.mlp.get("bias") if "mlp" in config else None}

@trial.configs
def configs():
    return CONFIGS

if __name__ == "__main__":
    trial.run()
"""
CONFIGS = '[{"name": "a", "lr": 1}, {"name": "b", "lr": 2, "mlp": {"width": 8}}]'


def run(folder: Path, defaults: str, configs: str = CONFIGS, *arguments: str) -> str:
    """The names of the cells that ran."""
    (folder / "main.py").write_text(SCRIPT.replace("DEFAULTS", defaults).replace("CONFIGS", configs))
    done = go(folder, *arguments)
    assert done.returncode == 0, done.stderr
    ran = folder / "ran.txt"
    names = ran.read_text() if ran.exists() else ""
    ran.unlink(missing_ok=True)
    return names.strip()


def test_a_parameter_that_is_added_with_its_default_keeps_what_is_finished(tmp_path: Path) -> None:
    assert run(tmp_path, "{}") == "a b"
    assert run(tmp_path, '{"dropout": 0.0}') == ""
    assert run(tmp_path, '{"dropout": 0.0, "mlp.bias": True}') == ""
    spelled_out = CONFIGS.replace('"lr": 1', '"lr": 1, "dropout": 0.0')
    assert run(tmp_path, '{"dropout": 0.0}', spelled_out) == ""
    other = CONFIGS.replace('"lr": 1', '"lr": 1, "dropout": 0.5')
    assert run(tmp_path, '{"dropout": 0.0}', other) == "a"
    (result,) = [each for each in pyexp.load(tmp_path / "out" / "trial" / "t") if each.config.get("dropout") == 0.5]
    assert result["dropout"] == 0.5


def test_the_experiment_and_overrides_see_the_defaults(tmp_path: Path) -> None:
    assert run(tmp_path, '{"dropout": 0.0, "mlp.bias": True}') == "a b"
    assert [result["dropout"] for result in pyexp.load(tmp_path / "out" / "trial" / "t")] == [0.0, 0.0]
    assert [result["bias"] for result in pyexp.load(tmp_path / "out" / "trial" / "t")] == [True, True]
    assert run(tmp_path, '{"dropout": 0.0, "mlp.bias": True}', CONFIGS, "dropout=0.3") == "a b"


def test_a_changed_default_is_a_changed_cell_and_the_old_one_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "trial" / "t"
    run(tmp_path, '{"dropout": 0.0}')
    (tmp_path / "main.py").write_text(SCRIPT.replace("DEFAULTS", '{"dropout": 0.5}').replace("CONFIGS", CONFIGS))
    assert "(unfinished (finished with another default: dropout was 0.0, and is 0.5))" in go(tmp_path, "-n").stdout
    assert run(tmp_path, '{"dropout": 0.5}') == "a b"
    assert [result["dropout"] for result in pyexp.load(folder)] == [0.5, 0.5]
    assert run(tmp_path, '{"dropout": 0.5}') == ""
    (kept,) = folder.glob("a_before-*")
    assert pyexp.load(kept)["dropout"] == 0.0
    # The code may have another value for a key that has no default any more.
    (tmp_path / "main.py").write_text(SCRIPT.replace("DEFAULTS", "{}").replace("CONFIGS", CONFIGS))
    words = "(unfinished (finished with another default: dropout was 0.5, and has no default any more))"
    assert words in go(tmp_path, "-n").stdout
    # The same value of another type is another value, as in the hash.
    assert run(tmp_path, '{"dropout": 1}') == "a b"
    assert run(tmp_path, '{"dropout": 1.0}') == "a b"
    assert run(tmp_path, '{"dropout": 1.0}', CONFIGS, "--rerun") == "a b"


@pytest.mark.parametrize("wrong", ['{"name": "x"}', '{"out": 1}', '{"a..b": 1}', "3", '{"fn": lambda: 1}'])
def test_what_cannot_be_a_default_is_refused_where_it_is_written(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "main.py").write_text(SCRIPT.replace("DEFAULTS", wrong).replace("CONFIGS", CONFIGS))
    done = go(tmp_path)
    assert done.returncode == 1
    assert "defaults" in done.stderr.splitlines()[-1] or "default" in done.stderr.splitlines()[-1]
