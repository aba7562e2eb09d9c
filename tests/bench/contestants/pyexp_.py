"""pyexp at each work, through what its users call."""

import os

from timing import answer, python, scratch, timed

SCRIPT = """
import pyexp

@pyexp.experiment(name="m", timestamp=False, durable=False, quiet=True, executor={executor}, jobs={jobs})
def experiment(config):
    {body}

@experiment.configs
def configs():
    return pyexp.sweep([{{"name": "e"}}], [{{"name": f"i{{i}}", "i": i}} for i in range({count})])

@experiment.report
def report(results):
    pass

if __name__ == "__main__":
    experiment.run()
"""


def script_seconds(count, executor, body="return {'value': config.i}", jobs=1):
    """Seconds that the whole script takes to run so many cells, and to do nothing once they are finished."""
    with scratch() as folder:
        text = SCRIPT.format(count=count, executor=executor, body=body, jobs=jobs)
        with open(os.path.join(folder, "main.py"), "w") as file:
            file.write(text)
        return python("main.py", folder=folder), python("main.py", folder=folder)


def import_package(count):
    return python("-c", "from pyexp import experiment, sweep")


def whole_script(count):
    return script_seconds(count, "'inline'")[1]


def _noop(config):
    return {"value": config.i}


def _run_here(count, executor, durable=False, fn=_noop):
    import pyexp

    grid = pyexp.sweep([{"name": "e"}], [{"name": f"i{i}", "i": i} for i in range(count)])
    with scratch() as folder:
        experiment = pyexp.experiment(name="m", durable=durable, quiet=True, output_dir=folder, executor=executor)(fn)
        experiment.run(grid, report=lambda results: None, argv=[])  # a first time, for the imports
        return timed(lambda: experiment.run(grid, report=lambda results: None, argv=[], name="n")) / count


def noop_inline(count):
    return _run_here(count, "inline")


def noop_inline_durable(count):
    return _run_here(count, "inline", durable=True)


def noop_fork(count):
    return _run_here(count, "fork")


def noop_fresh(count):
    first, second = script_seconds(count, "pyexp.SubprocessExecutor(fresh=True)")
    return (first - second) / count


def sleep_2(count):
    body = "import time; time.sleep(0.25); return {'value': config.i}"
    first, second = script_seconds(count, "'subprocess'", body=body, jobs=2)
    return first - second


def sleep_8(count):
    body = "import time; time.sleep(0.25); return {'value': config.i}"
    first, second = script_seconds(count, "'subprocess'", body=body, jobs=8)
    return first - second


def all_finished(count):
    import pyexp

    grid = pyexp.sweep([{"name": "e"}], [{"name": f"i{i}", "i": i} for i in range(count)])
    with scratch() as folder:
        experiment = pyexp.experiment(
            name="m", timestamp=False, durable=False, quiet=True, output_dir=folder, executor="inline"
        )(_noop)
        experiment.run(grid, report=lambda results: None, argv=[])
        return (
            timed(lambda: experiment.run(grid, report=lambda results: [r["value"] for r in results], argv=[])) / count
        )


def _array(config):
    import numpy

    return {"value": config.i, "array": numpy.zeros(1_250_000)}


def large_finished(count):
    import pyexp

    grid = pyexp.sweep([{"name": "e"}], [{"name": f"i{i}", "i": i} for i in range(count)])
    with scratch() as folder:
        experiment = pyexp.experiment(
            name="m", timestamp=False, durable=False, quiet=True, output_dir=folder, executor="inline"
        )(_array)
        experiment.run(grid, report=lambda results: None, argv=[])
        return timed(lambda: experiment.run(grid, report=lambda results: [r["value"] for r in results], argv=[]))


def _grid():
    import pyexp

    grid = [{"name": "e", "m": {f"q{i}": i for i in range(10)}, **{f"b{i}": i for i in range(9)}}]
    for axis in range(4):
        grid = pyexp.sweep(grid, [{"name": f"k{axis}v{i}", f"k{axis}": i} for i in range(10)])
    return grid


def sweep_walk(count):
    grid = _grid()
    return timed(lambda: [None for _ in grid]) / count


def config_hash(count):
    import pyexp

    config = {"name": "e", "opt": {"name": "adam", "betas": [0.9, 0.99]}, **{f"b{i}": i / 7 for i in range(18)}}
    return timed(lambda: [pyexp.config_hash(config) for _ in range(count)]) / count


def hash_walk(count):
    from pyexp.plan import cells_of

    grid = _grid()
    walked = timed(lambda: list(grid))
    return (timed(lambda: cells_of(grid)) - walked) / count


def _results(count):
    import pyexp
    from pyexp.results import Result, done, record_of
    from pyexp.tables import Results

    grid = pyexp.sweep([{"name": "e"}], [{"name": f"a{i}", "a": i} for i in range(count // 100)])
    grid = pyexp.sweep(grid, [{"name": f"b{i}", "i": i} for i in range(100)])
    number = iter(range(count))

    def made(config):
        outcome = done({"y": next(number) % 7}, [])
        return Result(record_of(config["name"], config, "0" * 12, outcome), None, lambda: None)

    return Results.of(grid.map(made))


def select_query(count):
    results = _results(count)
    return timed(lambda: results[{"y": 3}])


def select_glob(count):
    results = _results(count)
    return timed(lambda: results["*_b7"])


def select_axis(count):
    results = _results(count)
    return timed(lambda: results[{"config.i": 7}])


def plan_new(count):
    import pyexp

    base = {"name": "e", **{f"b{i}": i for i in range(20)}}
    grid = pyexp.sweep([base], [{"name": f"k{i}", "k": i} for i in range(count)])
    experiment = pyexp.experiment(name="nothing-here")(_noop)
    return timed(lambda: experiment.plan(grid))


if __name__ == "__main__":
    answer(globals())
