"""The interface that was asked for (`specification.md`) does what it says: its blocks run as they stand.

What a block leaves out (`train`, `torch`, an import) is put before it, what it needs to be run after it; the block
itself is never touched. Ray is aside: its names exist and its options are taken.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import get_args

import pytest

import pyexp

SPECIFICATION = (Path(__file__).parent / "specification.md").read_text()
TIMESTAMP = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?"
MAIN = '\n\nif __name__ == "__main__":\n    experiment.run()\n'


def sections() -> dict[str, list[str]]:
    """The code blocks of each section, by its heading."""
    parts = re.split(r"^##+ (.+)$", SPECIFICATION, flags=re.M)
    found = {
        heading: re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.M | re.S)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}


BLOCKS = sections()


def block(heading: str, number: int = 0) -> str:
    return BLOCKS[heading][number]


def run(folder: Path, code: str, *arguments: str, status: int = 0) -> str:
    """What the code, saved as main.py, prints on stdout when it is run in the folder."""
    (folder / "main.py").write_text(code)
    return go(folder, "main.py", *arguments, status=status).stdout


def go(folder: Path, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def folders(root: Path) -> list[str]:
    """The folders of the finished cells below a folder, the time of the run and the hash spelled `<…>`."""
    found = [str(path.parent.relative_to(root)) for path in root.rglob("result.pkl")]
    return sorted(re.sub(r"-[0-9a-f]{12}$", "-<hash>", re.sub(TIMESTAMP, "<timestamp>", path)) for path in found)


#: An experiment for the blocks that take one for granted: it writes down that it ran, and works for any config.
EXPERIMENT = dedent(
    """\
    import pyexp
    from pyexp import Config, sweep

    @pyexp.experiment
    def experiment(config: Config):
        with open("ran.txt", "a") as ran:
            ran.write(config.get("name", "") + "\\n")
        return {"accuracy": 0.95}

    """
)


def ran(folder: Path) -> list[str]:
    """The names of the cells that have run since this was asked last."""
    told = folder / "ran.txt"
    names = told.read_text().split() if told.exists() else []
    told.write_text("")
    return sorted(names)


def test_every_block_of_the_specification_is_held_here() -> None:
    held = {(found[1], int(found[2] or 0)) for found in re.finditer(r'block\("([^"]+)"(?:, (\d))?\)', source())}
    assert held == {(heading, number) for heading, blocks in BLOCKS.items() for number in range(len(blocks))}


def source() -> str:
    return Path(__file__).read_text()


def test_the_extra_that_the_installation_asks_for_is_there() -> None:
    assert "pyexp[ray]" in block("Installation")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["name"] == "pyexp"
    assert any(wanted.startswith("ray") for wanted in project["optional-dependencies"]["ray"])


def test_the_quick_start_reports_both_configs_and_keeps_them(tmp_path: Path) -> None:
    assert run(tmp_path, block("Quick Start")) == "fast: 0.95\nslow: 0.95\n"
    assert folders(tmp_path) == ["out/mnist/<timestamp>/fast-<hash>", "out/mnist/<timestamp>/slow-<hash>"]


def test_the_quick_starts_filter_finds_the_fast_one(tmp_path: Path) -> None:
    code = block("Quick Start").replace("\nif __name__", '    print(fast_results.item()["name"])\n\nif __name__')
    assert run(tmp_path, code).splitlines()[-1] == "fast"


def test_a_result_holds_name_config_and_outputs(tmp_path: Path) -> None:
    code = block("Quick Start").replace("\nif __name__", "    print(sorted(results[0]))\n\nif __name__")
    assert run(tmp_path, code).splitlines()[-1] == "['accuracy', 'config', 'name', 'out']"


def test_the_commands_on_caching_run_what_their_comments_say(tmp_path: Path) -> None:
    code = EXPERIMENT + '@experiment.configs\ndef configs():\n    return [{"name": "a"}, {"name": "b"}]\n' + MAIN
    (tmp_path / "main.py").write_text(code)
    commands = [line.partition("#")[0].split()[1:] for line in block("Automatic Caching").splitlines()]
    both = ["a", "b"]
    expected = [both, both, both, both, []]  # a new run; another; a specific run; again; its report
    for arguments, wanted in zip(commands, expected, strict=True):
        assert go(tmp_path, *arguments).stdout.split() == ["name", "accuracy", "a", "0.95", "b", "0.95"]
        assert ran(tmp_path) == wanted, arguments
    go(tmp_path, *commands[2])
    assert ran(tmp_path) == [], "what is finished in a specific run is not run again"
    runs = sorted(path.name for path in (tmp_path / "out/experiment").iterdir())
    assert runs[0] == "2024-01-25_14-30-00"
    assert len(runs) == 3


def test_the_folders_are_those_of_the_picture(tmp_path: Path) -> None:
    picture = block("Output Folder Structure")
    for level in ("out/", "<experiment_name>/", "<timestamp>/", "<config_name>-<hash>/", "result.pkl", "model.pt"):
        assert level in picture
    saving = '    (config.out / "model.pt").write_text("saved")\n'
    code = EXPERIMENT.replace("    return", f"{saving}    return")
    code += '@experiment.configs\ndef configs():\n    return [{"name": "a"}, {"name": "b"}]\n' + MAIN
    for _ in range(2):
        run(tmp_path, code)
    cells = [f"out/experiment/<timestamp>/{name}-<hash>" for name in "aabb"]
    assert folders(tmp_path) == cells
    assert len(list(tmp_path.glob("out/experiment/*/*/model.pt"))) == 4


def test_name_and_timestamp_control_the_folders(tmp_path: Path) -> None:
    default, custom, override = block("Output Folder Structure", 1).split("\n\n")
    start = '\nif __name__ == "__main__":\n    my_experiment.run(configs=[{"name": "config"}])\n'
    own_name = (
        '@experiment.configs\ndef configs():\n    return [{"name": "config"}]\n\nif __name__ == "__main__":\n    '
    )
    wanted = [
        (f"import pyexp\n{default}{start}", "out/my_experiment/<timestamp>/config-<hash>"),
        (f"import pyexp\n{custom}{start}", "out/mnist/config-<hash>"),
        (EXPERIMENT + own_name + override.strip().splitlines()[-1], "out/experiment_v2/config-<hash>"),
    ]
    for number, (code, folder) in enumerate(wanted):
        place = tmp_path / str(number)
        place.mkdir()
        run(place, code)
        assert folders(place) == [folder]


def test_without_a_timestamp_a_run_reuses_its_folder(tmp_path: Path) -> None:
    code = EXPERIMENT.replace("@pyexp.experiment", '@pyexp.experiment(name="mnist", timestamp=False)')
    code += '@experiment.configs\ndef configs():\n    return [{"name": "config"}]\n' + MAIN
    run(tmp_path, code)
    assert ran(tmp_path) == ["config"]
    run(tmp_path, code)
    assert folders(tmp_path) == ["out/mnist/config-<hash>"]


def test_a_crash_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    code = dedent(
        """\
        import ctypes
        import pyexp

        @pyexp.experiment
        def experiment(config):
            if config.name == "crash":
                ctypes.string_at(0)
            if config.name == "error":
                raise ValueError("no such thing")
            return {"accuracy": 0.95}

        @experiment.configs
        def configs():
            return [{"name": "crash"}, {"name": "error"}, {"name": "good"}]

        """
    )
    printed = run(tmp_path, code + block("Robust Execution") + MAIN).splitlines()
    assert re.fullmatch(r"crash failed: \w+: .*SIGSEGV.*", printed[0])
    assert printed[1:] == ["error failed: ValueError: no such thing", "good: 0.95"]


def test_every_executor_is_chosen_by_its_decorator_or_at_run_time(tmp_path: Path) -> None:
    lines = [line.partition("  #")[0] for line in block("Execution Modes").splitlines()]
    decorators = [line for line in lines if line.startswith("@")]
    (at_run_time,) = [line for line in lines if line.startswith("experiment.run(")]
    function = "def experiment(config):\n    import os\n    return os.getpid()\n"
    configs = '\n@experiment.configs\ndef configs():\n    return [{"name": "config"}]\n'
    report = "\n@experiment.report\ndef report(results):\n    import os\n    print(results[0].value == os.getpid())\n"
    assert len(decorators) == 4
    for decorator in decorators:
        code = f"import pyexp\n{decorator}\n{function}{configs}{report}\nif __name__ == '__main__':\n    "
        if '"ray"' not in decorator:
            same_process = run(tmp_path, code + "experiment.run()")
            assert same_process == f"{'inline' in decorator}\n"
        assert run(tmp_path, code + at_run_time) == "True\n"


def test_the_options_of_ray_are_taken_and_wait_for_a_run(tmp_path: Path) -> None:
    given = block("Distributed Execution with Ray")
    named, construction, at_run_time = (
        part.strip() for part in re.split(r"^experiment\.run\(.*\)$", given, flags=re.M)
    )
    assert "RayExecutor" in named + construction
    assert at_run_time == ""
    run(tmp_path, f"{named}\n{construction}\nassert isinstance(executor, RayExecutor)\n")


def test_a_config_is_read_as_a_dict_and_with_dots(tmp_path: Path) -> None:
    reads = [line.partition("#")[0].strip() for line in block("Config Class").splitlines()]
    code = EXPERIMENT.replace('{"accuracy": 0.95}', "[" + ", ".join(reads) + "]")
    code += '@experiment.configs\ndef configs():\n    return [{"learning_rate": 0.1, "optimizer": {"lr": 0.5}}]\n'
    code += "\n@experiment.report\ndef report(results):\n    print(results[0].value)\n"
    assert run(tmp_path, code + MAIN) == "[0.1, 0.1, 0.5]\n"


def test_artifacts_are_saved_in_the_cells_own_folder(tmp_path: Path) -> None:
    given = dedent(
        """\
        import pyexp
        from pyexp import Config

        class torch:
            @staticmethod
            def save(model, path):
                path.write_text(model)

        def train(config):
            return f"weights of {config.name}"

        """
    )
    configs = '\n@experiment.configs\ndef configs():\n    return [{"name": "a"}, {"name": "b"}]\n'
    run(tmp_path, given + block("Output Directory") + configs + MAIN)
    saved = {path.parent.name[0]: path.read_text() for path in tmp_path.glob("out/experiment/*/*/model.pt")}
    assert saved == {"a": "weights of a", "b": "weights of b"}
    assert len(list(tmp_path.glob("out/experiment/*/*/result.pkl"))) == 2


def test_a_sweep_has_the_shape_and_names_of_its_comment(tmp_path: Path) -> None:
    given = block("Parameter Sweeps")
    assert "Shape: (1, 2, 2), names: exp_lr0.1_e10, exp_lr0.1_e100" in given
    report = '\n@experiment.report\ndef report(results):\n    print(results.shape, *(r["name"] for r in results))\n'
    printed = run(tmp_path, EXPERIMENT + given + report + MAIN)
    assert printed == "(1, 2, 2) exp_lr0.1_e10 exp_lr0.1_e100 exp_lr0.01_e10 exp_lr0.01_e100\n"


def test_the_values_of_a_sweep_reach_the_experiment(tmp_path: Path) -> None:
    code = EXPERIMENT.replace('{"accuracy": 0.95}', '{"got": (config.base_lr, config.learning_rate, config.epochs)}')
    report = '\n@experiment.report\ndef report(results):\n    print([r["got"] for r in results])\n'
    printed = run(tmp_path, code + block("Parameter Sweeps") + report + MAIN)
    assert printed == "[(0.01, 0.1, 10), (0.01, 0.1, 100), (0.01, 0.01, 10), (0.01, 0.01, 100)]\n"


def test_a_dotted_key_updates_the_width_and_keeps_the_depth(tmp_path: Path) -> None:
    code = "from pyexp import sweep\n" + block("Dot Notation in Sweeps")
    code += "print(cfgs.shape, *((c['name'], c['mlp']['width'], c['mlp']['depth']) for c in cfgs))\n"
    assert run(tmp_path, code) == "(1, 2) ('exp_w64', 64, 2) ('exp_w128', 128, 2)\n"


#: The grid of the specification's sweeps, in which every query of its filters finds something.
GRID = """
@experiment.configs
def configs():
    cfgs = [{"name": "exp", "mlp": {"width": 128, "depth": 2}}]
    cfgs = sweep(cfgs, [{"name": "lr0.1", "learning_rate": 0.1}, {"name": "lr0.01", "learning_rate": 0.01}])
    return sweep(cfgs, [{"name": "e10", "epochs": 10}, {"name": "e100", "epochs": 100}])

"""


def test_every_filter_holds_exactly_what_its_comment_says(tmp_path: Path) -> None:
    given = block("Result Filtering")
    by_value = "    lr01_results = results[{"
    first = given.replace(by_value, f"    by_name = lr01_results\n{by_value}")
    last = (
        "    for found in (by_name, epoch10_results, lr01_results, specific, wide_results):\n"
        '        print(isinstance(found, pyexp.Tensor), found.shape, *(r["name"] for r in found))\n'
    )
    assert run(tmp_path, EXPERIMENT + GRID + first + last + MAIN).splitlines() == [
        "True (1, 1, 2) exp_lr0.1_e10 exp_lr0.1_e100",
        "True (1, 2, 1) exp_lr0.1_e10 exp_lr0.01_e10",
        "True (1, 1, 2) exp_lr0.1_e10 exp_lr0.1_e100",
        "True (1, 1, 1) exp_lr0.1_e10",
        "True (1, 2, 2) exp_lr0.1_e10 exp_lr0.1_e100 exp_lr0.01_e10 exp_lr0.01_e100",
    ]


def test_results_are_indexed_by_position(tmp_path: Path) -> None:
    last = '    print(*(r["name"] for r in first_lr))\n'
    printed = run(tmp_path, EXPERIMENT + GRID + block("Tensor Indexing") + last + MAIN)
    assert printed.splitlines() == ["(1, 2, 2)", "exp_lr0.01_e10 0.95", "exp_lr0.1_e10 exp_lr0.1_e100"]


def test_a_custom_executor_runs_every_cell(tmp_path: Path) -> None:
    given, at_run_time = block("Custom Executors").split("\nexperiment.run(")
    code = "import pickle\n" + EXPERIMENT + GRID + given
    printed = run(tmp_path, code + f'\nif __name__ == "__main__":\n    experiment.run({at_run_time}')
    assert printed.count("0.95") == 4
    assert ran(tmp_path) == ["exp_lr0.01_e10", "exp_lr0.01_e100", "exp_lr0.1_e10", "exp_lr0.1_e100"]
    assert len(folders(tmp_path)) == 4
    assert len([*tmp_path.rglob("*.pkl")]) == 4  # the pickles that it writes make way for the sealed results


def test_configs_and_report_can_be_arguments(tmp_path: Path) -> None:
    functions = 'def my_configs_fn():\n    return [{"name": "a"}]\n\n'
    functions += 'def my_report_fn(results):\n    print(results[0]["name"])\n'
    code = EXPERIMENT + functions + '\nif __name__ == "__main__":\n    ' + block("Alternative API")
    assert run(tmp_path, code) == "a\n"


def test_the_output_directory_can_be_chosen(tmp_path: Path) -> None:
    configs = '@experiment.configs\ndef configs():\n    return [{"name": "a"}]\n'
    run(tmp_path, EXPERIMENT + configs + '\nif __name__ == "__main__":\n    ' + block("Configuration"))
    assert folders(tmp_path) == ["results/experiment/<timestamp>/a-<hash>"]


def test_every_flag_of_the_table_is_in_the_help(tmp_path: Path) -> None:
    table = SPECIFICATION.partition("## CLI Arguments")[2].partition("##")[0]
    flags = re.findall(r"^\| `(--\w+)", table, flags=re.M)
    assert flags == ["--report", "--rerun", "--timestamp"]
    told = run(tmp_path, EXPERIMENT + GRID + MAIN, "--help")
    assert all(flag in told for flag in flags)


def test_a_report_runs_nothing_and_a_rerun_everything(tmp_path: Path) -> None:
    code = EXPERIMENT + GRID + MAIN
    run(tmp_path, code)
    assert len(ran(tmp_path)) == 4
    run(tmp_path, code, "--report")
    assert ran(tmp_path) == []
    run(tmp_path, code, "--rerun")
    assert len(ran(tmp_path)) == 4


@pytest.mark.parametrize(
    "name", re.findall(r"^- `(\w+)[`(]", SPECIFICATION.partition("## API Reference")[2], flags=re.M)
)
def test_every_name_of_the_reference_is_public(name: str) -> None:
    assert name in pyexp.__all__
    assert getattr(pyexp, name) is not None


def test_the_classes_of_the_reference_are_what_it_calls_them() -> None:
    assert issubclass(pyexp.Config, dict)
    for executor in ("InlineExecutor", "SubprocessExecutor", "ForkExecutor", "RayExecutor"):
        assert issubclass(getattr(pyexp, executor), pyexp.Executor)
    with pytest.raises(TypeError, match="abstract"):
        pyexp.Executor()  # type: ignore[abstract]
    assert get_args(pyexp.ExecutorName) == ("inline", "subprocess", "fork", "ray")
    for name in get_args(pyexp.ExecutorName):
        executor = pyexp.get_executor(name)
        assert pyexp.get_executor(executor) is executor


def test_merge_reaches_inside_with_dots() -> None:
    merged = pyexp.thaw(pyexp.merge({"mlp": {"width": 32, "depth": 2}}, {"mlp.width": 64}))
    assert merged == {"mlp": {"width": 64, "depth": 2}}
