"""Typical mistakes of a newcomer: each message says what was wrong, where, and what would be right."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyexp

SCRIPT = """
import pyexp
from pyexp import sweep

@pyexp.experiment(name="line", executor="inline", quiet=True)
def experiment(config):
    return {"loss": config.lr * config.seed, "curve": [0.0], "typo": config["lrr"] if config.seed == 2 else 0}

@experiment.configs
def configs():
    base = [{"name": "sgd", "model": {"width": 32}, "steps": 3}]
    grid = sweep(base, [{"name": f"lr{lr}", "lr": lr} for lr in (0.1, 1.0)])
    return sweep(grid, [{"name": f"s{s}", "seed": s} for s in (0, 1, 2)])
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a script has: the module's names, `r` (the results of its run) and `out` (their folder)."""
    known: dict[str, Any] = {"__name__": "main"}
    exec(SCRIPT, known)
    known["out"] = tmp_path_factory.mktemp("out")
    known["r"] = known["experiment"].run(argv=[], output_dir=known["out"], report=lambda results: results)
    known["good"] = known["r"].sel(seed=[0, 1])
    return known


@pytest.mark.parametrize(
    ("code", "said"),
    [
        # The function
        ("pyexp.Experiment()", "UsageError: .* 'fn'; decorate a function of a config with @pyexp.experiment"),
        ("pyexp.experiment('mnist')", "ConfigError: .* not 'mnist'; to name it: @experiment(name='mnist')"),
        ("pyexp.experiment(lambda: 1)", "ConfigError: .* takes (): .*; give it a parameter: def experiment(config)"),
        ("pyexp.experiment(lambda lr, seed: 1)", "ConfigError: .* takes (lr, seed): .*; give it one parameter"),
        ("pyexp.experiment(len, excutor='inline')", "UsageError: .* no option 'excutor'; did you mean 'executor'?"),
        (
            "pyexp.experiment(excutor='inline')(lambda c: 1)",
            "UsageError: .* no option 'excutor'; did you mean 'executor'?",
        ),
        ("pyexp.experiment(defaults=['dropout'])(lambda c: 1)", "ConfigError: defaults is ['dropout'], of type list; "),
        ("experiment.configs(lambda seed: [])", "ConfigError: the configs function .* takes (seed), .* def configs()"),
        ("experiment.report(lambda: 1)", "ConfigError: the report function .* takes (), .*: def report(results)"),
        ("experiment.initializer(lambda config: 1)", "ConfigError: the initializer function .*: def initialize()"),
        ("experiment([{'lr': 1}])", "ConfigError: config is [{'lr': 1}], of type list; it has to be a mapping"),
        (
            "exec('@experiment.report\\ndef f(results): yield', globals())",
            "ConfigError: the report function 'f' is a gen",
        ),
        (
            "exec('@experiment.configs\\nasync def f(): pass', globals())",
            "ConfigError: the configs function 'f' is async",
        ),
        ("experiment.configs()", "UsageError: .*; write @experiment.configs without parentheses"),
        ("experiment.report()", "UsageError: .*; write @experiment.report without parentheses"),
        ("setattr(experiment, 'report', print)", "UsageError: report is a method, .*; call it: experiment.report(…)"),
        ("experiment(lr=1)", "UsageError: __call__() .* 'lr'; give it one config: experiment({'key': value})"),
        ("pyexp(configs)", "TypeError: 'module' object is not callable"),
        # Configs
        ("experiment.plan({'lr': 1})", "ConfigError: configs is one dict; give a list of them: [{…}]"),
        ("experiment.plan(lambda: None)", "ConfigError: .* returned None; did it forget to return the list"),
        (
            "experiment.plan([[{'lr': 1}]])",
            "ConfigError: configs[0] is [{'lr': 1}], of type list; a config is a mapping",
        ),
        ("experiment.plan([{'lr': 1}] * 2)", "ConfigError: cells 0 and 1 are the same config, .* a seed"),
        ("experiment.plan([{'out': 1}])", "ConfigError: .* holds the key 'out', which is pyexp's: .* another key"),
        ("experiment.plan([{'f': lambda: 1}])", "HashError: config.f is a lambda, .* use a named function"),
        ("sweep([{}], {'lr': [1, 2]})", "ConfigError: variations is one dict; .* [{'lr': value} for value in …]"),
        ("sweep([{}], [0.1])", "ConfigError: variations[0] is 0.1, of type float; it has to be a mapping"),
        ("sweep([{}], lr=[1, 2])", "UsageError: sweep() .* 'lr'; give each value a dict: sweep(configs, [{'lr': 0.1}"),
        ("sweep([{}])", "UsageError: .*'variations'; give each value a dict"),
        ("configs()[0].update(lr=1)", "TypeError: a config of a grid is frozen, .*: merge(config"),
        ("configs().append({})", "AttributeError: .* 'append'; a Tensor never changes: pyexp.concat([a, b])"),
        ("configs() + [{}]", "UsageError: a Tensor has no arithmetic; .*, and concat([a, b]) joins grids"),
        ("pyexp.sample(configs(), 0.5, seed=0)", "ConfigError: n, the number of cells to draw, is 0.5, of type float"),
        ("pyexp.concat(configs())", "ConfigError: tensors is one Tensor; give a list of them: concat([a, b])"),
        ("pyexp.concat(configs(), configs())", "UsageError: .*; give one list of grids: concat([a, b])"),
        ("pyexp.config_hash('abc')", "ConfigError: config is 'abc', of type str; it has to be a mapping"),
        ("experiment({'lr': 1, 'seed': 2})", "KeyError: 'lrr' did you mean 'lr'?"),
        # Options
        ("experiment.run(config=[])", "UsageError: run() has no option 'config'; did you mean 'configs'?"),
        ("experiment.run(jobs=0)", "UsageError: jobs is 0; it takes a number from 1, or 'auto'"),
        (
            "experiment.run(argv='--report -q')",
            "UsageError: argv is '--report -q'; .* list of words: ['--report', '-q']",
        ),
        ("experiment.run(argv=['-j', 2])", "UsageError: argv is ['-j', 2]; its words are strings: ['-j', '2']"),
        (
            "experiment.run(report='table')",
            "UsageError: report is 'table'; it takes a function of the Results, or True",
        ),
        (
            "experiment.run(executor='process')",
            "UsageError: there is no executor 'process'; did you mean 'subprocess'?",
        ),
        ("experiment.results('2024')", "NoRunError: there is no run at .*2024; 'line' has no run yet"),
        ("experiment.results('2024', output_dir=out)", "NoRunError: there is no run at .*/2024; the runs are '20"),
        ("pyexp.load(out / 'lin')", "NoRunError: there is no run at .*lin; did you mean 'line'?"),
        ("pyexp.load(out)", "NoRunError: .*; the experiments in it are 'line'"),
        ("pyexp.load('o/line')", "NoRunError: there is no run at .*; there is no folder .*/o"),
        (
            "pyexp.load(r[0].out / 'result.pkl')",
            "NoRunError: .*result.pkl is a file; give the folder of a run or a cell",
        ),
        ("pyexp.load(3)", "UsageError: path is 3, of type int; it takes the folder of a run or a cell"),
        # Results
        ("r['sgd_lr0.2_s0']", "SelectionError: no item is named 'sgd_lr0.2_s0' .*; did you mean 'sgd_lr0.1_s0'"),
        ("r['los']", "SelectionError: no item is named 'los' .*; the outputs are 'loss', 'curve', 'typo'"),
        (
            "r.sel(learning_rate=1)",
            "SelectionError: no axis is named 'learning_rate'; the axes are 'axis_0', 'lr', 'seed'",
        ),
        ("r.sel(lr=0.2)", "SelectionError: axis 'lr' has no coordinate 0.2; there is 0.1, 1.0"),
        ("r[{'lr': 0.1}]", "SelectionError: no item has 'lr'; did you mean 'config.lr'?"),
        ("r[{'config.lr': 0.2}]", "SelectionError: 'config.lr' is 0.2 in no item; there is 0.1, 1.0"),
        ("r[0, 0, 0, 0]", "SelectionError: too many indices: 4 for a tensor of 3 axes"),
        ("r[0.1]", "SelectionError: .* cannot be indexed with 0.1, of type float; .* use sel(axis=value)"),
        (
            "r[r['loss'] == 0.1]",
            "SelectionError: .* with False, of type bool; .*; to select by a condition, use filter(",
        ),
        ("r.filter({'config.lr': 0.1})", "SelectionError: filter takes a function of an item, .*, use t[{…}]"),
        ("r.where('loss')", "SelectionError: where takes a function of an item, and not 'loss'"),
        ("r.map('loss')", "SelectionError: map takes a function of an item, and not 'loss'; .* results['loss']"),
        ("r.sel('lr', 0.1)", "UsageError: .*; name the axes: sel(lr=0.1)"),
        ("max(r)", "UsageError: results have no order; give a key: max(results, key=lambda r: "),
        ("r.sel('lr')", "SelectionError: sel takes axes by name, and not 'lr'; write sel(axis=…) or a dict"),
        ("r.sel({'lr': 0.1}, lr=0.2)", "SelectionError: sel has 'lr' twice, in the dict and as a keyword; keep one of"),
        ("r.isel(['lr'])", "SelectionError: isel takes axes by name, and not ['lr']; write isel(axis=…)"),
        ("r['config.lr']", "SelectionError: .*; to select by a key of the configs, use results[{'config.lr': value}]"),
        ("r.lr", "AttributeError: .* no attribute 'lr'; its coordinates are .coords['lr'], and .sel(lr=…) selects"),
        ("r.loss", "AttributeError: .* no attribute 'loss'; an output is taken as in results['loss']"),
        ("good[:1].loss", "AttributeError: .* no attribute 'loss'; to look into its one item, use .item().loss"),
        ("good[:1].los", "AttributeError: .* no attribute 'los'; to_pandas()"),
        ("r.to_list()", "AttributeError: .* no attribute 'to_list'; did you mean 'tolist'?"),
        ("r.iloc", "AttributeError: .* no attribute 'iloc'; to_pandas() makes a DataFrame of it, "),
        ("good.mean('sed')", "SelectionError: no axis is named 'sed'; did you mean 'seed'?"),
        (
            "good.mean('loss')",
            "SelectionError: 'loss' is an output, and a reduction names axes .*: results.mean('…')['loss']",
        ),
        ("r.mean('seed')", "ResultError: 2 of 6 cells have no result .* skipna=True"),
        ("good.mean(0)", "SelectionError: a reduction names axes ('axis_0', 'lr', 'seed'), and not 0"),
        ("r[r['loss'] > 0.5]", "UsageError: a Tensor has no arithmetic; .*, filter(lambda item: …) selects"),
        ("good['loss'] - good['loss']", "UsageError: a Tensor has no arithmetic; numpy.asarray(…) has it"),
        ("good['loss'].mean()", "AttributeError: .* no attribute 'mean'; numpy.asarray(…) makes an array of it"),
        ("good.filter(lr=1)", "UsageError: .*; give a function of an item: filter(lambda r: …); sel(lr=0.1) selects"),
        ("good.to_pandas('loss')", "UsageError: .*; take a column of the DataFrame: results.to_pandas()['loss']"),
        ("pyexp.replicate(configs(), seeds=3)", "UsageError: .*; write replicate(configs, 3, seed=0)"),
        ("good.mean(axis=2)", "UsageError: mean() .* 'axis'; name the axes: results.mean('seed')"),
        ("good.std('seed', ddof='1')", "UsageError: ddof is '1', of type str; it takes a whole number"),
        ("r[0].los", "ResultError: result 'sgd_lr0.1_s0' has no 'los'; did you mean 'loss'?"),
        ("r[2]['loss']", "ResultError: .* failed with KeyError: 'lrr'; did you mean 'lr'?: it has no 'loss'"),
        ("r[0].config.lrr", "AttributeError: Config has no attribute 'lrr'; did you mean 'lr'?"),
    ],
)
def test_a_mistake_in_the_script_is_explained(code: str, said: str, names: dict[str, Any]) -> None:
    with pytest.raises(Exception) as raised:  # of any class: its name is in the table
        eval(code, names)
    words = " ".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    pattern = ".*".join(map(re.escape, said.split(".*")))
    assert re.match(pattern, f"{type(raised.value).__name__}: {words}", re.S), words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--jbos 2", "unknown option '--jbos'; did you mean '--jobs'?"),
        ("-jobs 2", "unknown option '-jobs'; did you mean '--jobs'?"),
        ("--list-runs", "unknown option '--list-runs'; did you mean '--list'?"),
        ("--lr=0.1", "unknown option '--lr'; .*; to change a key of the configs, write lr=VALUE"),
        ("-j 0", "--jobs is '0'; it takes a number from 1, or 'auto' (one for each core)"),
        ("--timeout 10m", "--timeout is '10m'; it takes seconds, more than 0"),
        ("--report 2024-01-01", "unexpected argument '2024-01-01'; .*; to name a run, write --timestamp 2024-01-01"),
        ("--timestamp 2024-01-01 --report", "there is no run at .*2024-01-01; 'line' has no run yet"),
        ("x=7", "no config has the key 'x'; "),
        ("steps = 5", "unexpected argument 'steps'; an override is written key=value, without spaces"),
        ("step=5", "no config has the key 'step'; did you mean 'steps'? (to add it, write +step=…)"),
        ("model.widht=5", "no config has the key 'model.widht'; did you mean 'model.width'"),
        ("lr=0.5", "'lr' cannot be overridden: the configs differ in it (0.1, 1.0, …); select some of them with -k"),
        ("steps=1,2", "'steps' is 3, of type int, which '1,2' is not; write a number like steps=10"),
        ("-k lr0.1", "no cell is named 'lr0.1' or matches it; '*lr0.1*' matches 3"),
        ("--rerun --report", "--report and --rerun contradict each other; give one of them"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    words: str, said: str, names: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        names["experiment"].run(argv=words.split(), output_dir=tmp_path)
    assert left.value.code == 2
    pattern = ".*".join(map(re.escape, said.split(".*")))
    assert re.match(rf"error: {pattern}[^\n]*\n\Z", capfd.readouterr().err)


def test_the_traceback_of_a_mistake_has_the_frames_of_the_user_alone(tmp_path: Path) -> None:
    """Those between them too: an error in a report has the line of `run()` and that of the report."""
    script = tmp_path / "main.py"
    script.write_text(
        f"{SCRIPT}\ndef report(results):\n    return results[0].los\n\nexperiment.run(argv=[], report=report)\n"
    )
    done = subprocess.run([sys.executable, script], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.count("  File ") == done.stderr.count(f'  File "{script}"') == 2, done.stderr
    assert done.stderr.endswith("ResultError: result 'sgd_lr0.1_s0' has no 'los'; did you mean 'loss'?\n")


def test_the_traceback_of_any_other_error_has_all_frames(capfd: pytest.CaptureFixture[str]) -> None:
    trace = None
    try:
        pyexp.Tensor("ab").map(lambda item: item / 2)
    except TypeError as error:
        trace = error
    assert trace is not None
    pyexp._show_uncaught(TypeError, trace, trace.__traceback__)
    assert capfd.readouterr().err.count("tensor.py") == 2


def test_a_sweep_of_a_key_that_looks_like_a_slip_is_told_once(
    names: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = pyexp.sweep(names["configs"](), [{"name": f"w{w}", "model.widht": w} for w in (1, 2)])
    note = "note: a variation sets 'model.widht', beside the key 'model.width'; if you mean two keys, put both in the"
    for options in ({"dry_run": True}, {"timestamp": "one", "select": "*s0_w1"}, {"timestamp": "one", "report": True}):
        names["experiment"].run(grid, argv=[], output_dir=tmp_path, **options)
        assert capfd.readouterr().err.count(note) == ("report" not in options)
    names["experiment"].run(argv=[], output_dir=tmp_path, dry_run=True)
    assert "note: a variation" not in capfd.readouterr().err
