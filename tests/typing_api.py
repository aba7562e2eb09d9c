"""What users write, as mypy sees it: this file has to check under `mypy --strict`, and is never run.

`assert_type` holds what a reader of the signatures would expect; an ignore with its code holds what has to be refused
(an ignore that nothing needs is itself an error).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_type

import pyexp
from pyexp import (
    Axis,
    Config,
    Executor,
    Experiment,
    InlineExecutor,
    Mode,
    Plan,
    RayExecutor,
    Record,
    Result,
    Results,
    Status,
    SubprocessExecutor,
    Tensor,
    concat,
    config_hash,
    derive,
    get_executor,
    merge,
    register_encoder,
    replicate,
    sample,
    sweep,
    zipped,
)
from pyexp.configs import FrozenConfig


@pyexp.experiment
def bare(config: Config) -> dict[str, float]:
    return {"accuracy": config.learning_rate, "width": config.mlp.width, "lr": config["learning_rate"]}


assert_type(pyexp.experiment(bare.fn, name="bare"), Experiment[dict[str, float]])


@pyexp.experiment(name="mnist", executor="fork", timestamp=False, jobs="auto", timeout=60.0)
def with_options(config: Config) -> float:
    assert_type(config.out, Any)
    (config.out / "model.txt").write_text("weights")
    return 0.5


assert_type(bare, Experiment[dict[str, float]])
assert_type(with_options, Experiment[float])
assert_type(bare({"learning_rate": 0.1}), dict[str, float])


@bare.configs
def configs() -> Tensor[FrozenConfig]:
    grid = sweep([{"name": "exp", "mlp": {"width": 32}}], [{"name": "w64", "mlp.width": 64}])
    assert_type(grid, Tensor[FrozenConfig])
    return sweep(grid, [{"seed": seed} for seed in range(3)], axis="seed")


@with_options.configs
def listed() -> list[dict[str, Any]]:
    return [{"name": "fast", "learning_rate": 0.1}]


# The decorators give the functions back, with their types.
assert_type(configs(), Tensor[FrozenConfig])
assert_type(listed(), list[dict[str, Any]])


@bare.report
def report(results: Tensor[Result]) -> float:
    for r in results:
        assert_type(r, Result)
        assert_type(r.name, str)
        assert_type(r.config, Config)
        assert_type(r["accuracy"], Any)
        assert_type(r.record, Record)
        if r.get("__error__"):
            print(r["type"], r.message)
    assert_type(results[0], Result)
    assert_type(results[1:3], Tensor[Result])
    assert_type(results[{"config.learning_rate": 0.1}], Tensor[Result])
    assert_type(results[[0, 2]], Tensor[Result])
    assert_type(results.filter(lambda r: "exp" in r.name), Tensor[Result])
    assert_type(results[{"config.seed": 1}].item(), Result)
    accuracies = results.map(accuracy)
    assert_type(accuracies, Tensor[float])
    assert_type(results.shape, tuple[int, ...])
    assert_type(results.axes[0], Axis)
    first: Result = results[0, 0, 1]  # of a tuple or a string, the types cannot tell an item from a selection
    wide: Tensor[Result] = results["*_w64*"]
    row: Tensor[Result] = results.sel(seed=1)
    mask = results.map(lambda r: accuracy(r) > 0.5)
    assert_type(results[mask], Tensor[Result])
    assert_type(results.isel(seed=[0, 2]), Tensor[Result])
    assert_type(results.where(lambda r: r.name != ""), Tensor[Result])
    assert_type(results[:, [0, 1]], Tensor[Result])
    assert_type(results[...], Tensor[Result])
    assert_type(results[results.map(lambda r: accuracy(r) > 0.5)], Tensor[Result])
    assert_type(results.squeeze("axis_0"), Tensor[Result])
    assert_type(results.dims, tuple[str, ...])
    assert_type(results.sizes, dict[str, int])
    assert_type(results.coords["seed"], Sequence[Any])
    anything: Tensor[object] = results  # what only gives items may give more special ones
    items: Collection[Mapping[str, Any]] = results
    assert "exp" in anything
    assert len(items) > 0
    assert_type(iter(wide), Iterator[Result])
    return sum(accuracies) + accuracy(first) + len(row)


def accuracy(result: Result) -> float:
    return float(result["accuracy"])


def wrong_uses(results: Tensor[Result]) -> None:
    results.shape = (1,)  # type: ignore[misc]
    results[0] = results[1]  # type: ignore[index]
    results.filtr(lambda r: True)  # type: ignore[attr-defined]
    zipped([{"lr": 1}])  # type: ignore[arg-type]
    derive([{"x": 1}], {"y": 1})  # type: ignore[arg-type]
    results[0].name = "other"  # type: ignore[misc]
    sweep([{"name": "exp"}], [{"seed": 1}], axis=3)  # type: ignore[arg-type]
    sample([{"x": 1}], 1)  # type: ignore[call-arg]
    bare.run(argv="--report")  # a string is a sequence of strings, alas: refused when it is run
    Executor()  # type: ignore[abstract]


class Mine(Executor):
    """What the specification shows."""

    def run(self, fn: Callable[[Config], Any], config: Config, result_path: Path) -> Any:
        return fn(config)


class Angle:
    degrees: float = 0.0


register_encoder(Angle, lambda angle: angle.degrees)


def main() -> None:
    bare.run()
    bare.run(configs, report, argv=[], executor=Mine(), output_dir="results/", name="other", timestamp=False)
    bare.run(
        configs=lambda: [{"x": 1}], executor=RayExecutor(address="auto", runtime_env={"pip": ["numpy"]}, num_cpus=4)
    )
    bare.run(jobs="auto", timeout=60, select="exp_*", overrides={"mlp.width": 64, "+debug": True}, resume=True)
    bare.run(grace=30, pdb=True, argv=[])
    bare.run(report=True, argv=[])
    assert_type(bare.run(configs, report, argv=[]), float)
    assert_type(bare.run(report=lambda results: results.shape), tuple[int, ...])
    assert_type(bare.run(report=True), Any)
    bare.run(job=2)  # type: ignore[call-overload]
    bare.run(executor="subproces")  # type: ignore[call-overload]
    pyexp.experiment(executor="frok")  # type: ignore[call-overload]
    bare.run(retries="many")  # type: ignore[call-overload]
    found = bare.results()
    assert_type(found, Results)
    assert_type(found[{"config.lr": 0.1}], Results)
    assert_type(found[1:3].filter(lambda r: r["accuracy"] > 0.9), Results)
    assert_type(found.mean("seed", skipna=True).std("lr", ddof=1), Results)
    assert_type(found.count("seed"), Results)
    assert_type(found.to_records(), list[dict[str, Any]])
    assert_type(found.mean(dim=["seed", "lr"]).max(dim="epochs").min(dim=...), Results)
    found.to_pandas(arrays=True)
    found.to_xarray(dims={"curve": ["step"], "loss": "step"})
    assert_type(zipped({"opt.lr": [0.1, 1.0]}, batch=(32, 64))[0], dict[str, Any])
    assert_type(sweep(configs(), zipped(lr=[0.1, 1.0], batch=[32, 64])), Tensor[FrozenConfig])
    assert_type(derive(configs(), lambda config: {"decay": config["lr"] / 10}), Tensor[FrozenConfig])
    assert_type(replicate(configs(), 3, seed=0), Tensor[FrozenConfig])
    assert_type(bare.plan(jobs=2), Plan)
    assert_type(bare.plan().steps[0].status, Status)
    assert_type(bare.plan().mode, Mode)
    assert_type(get_executor("inline"), Executor)
    assert_type(get_executor(SubprocessExecutor()), Executor)
    assert_type(InlineExecutor().run(listed_first, Config(x=1), Path("result.pkl")), Any)
    assert_type(config_hash({"lr": 0.1}), str)
    assert_type(merge({"a": 1}, {"b.c": 2}), FrozenConfig)
    assert_type(concat([configs(), [{"x": 1}]]), Tensor[FrozenConfig])
    assert_type(sample(configs(), 2, seed=0), Tensor[FrozenConfig])
    assert_type(Tensor([1, 2, 3, 4], (2, 2))[0], int)
    config = Config({"a": {"b": 1}}, c=2)
    assert_type(config | {"d": 3}, Any)
    assert_type(config.copy(), Config)
    try:
        bare({"learning_rate": 0.1})
    except pyexp.ConfigError as error:
        problem: ValueError = error
        print(problem)


def listed_first(config: Mapping[str, Any]) -> str:
    return str(next(iter(config)))


class Carrying(Executor):
    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    def run(self, fn: Callable[[Config], Any], config: Config, result_path: Path) -> Any:
        carried = pyexp.attempt(fn, config, result_path, timeout=60)
        assert_type(carried, Callable[[], pyexp.Outcome])
        return self.pool.submit(carried).result()

    def close(self) -> None:
        self.pool.shutdown()


def engines() -> None:
    bare.run(executor=pyexp.FuturesExecutor(ProcessPoolExecutor(2), jobs=8), stop_after=3600)
    bare.run(executor=Carrying(), gpus="none")
    bare.run(gpus=["0+1", 2], jobs=1)
    pyexp.FuturesExecutor(7)  # type: ignore[arg-type]
