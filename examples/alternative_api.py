"""Alternative API: configs and report as arguments, and results without a run.

python examples/alternative_api.py
"""

import pyexp


@pyexp.experiment
def squares(config):
    return config.x**2  # anything that can be pickled; what is no dict is under r["value"]


def my_configs_fn():
    return [{"name": f"x{x}", "x": x} for x in (1, 2, 3)]


def my_report_fn(results):
    return sum(r["value"] for r in results)


if __name__ == "__main__":
    print("run() returns what the report returns:", squares.run(configs=my_configs_fn, report=my_report_fn))
    print("called with a dict, it is the function:", squares({"x": 7}))
    print("the results again:", squares.results(configs=my_configs_fn).map(lambda r: r.value).tolist())
    print(squares.plan(configs=my_configs_fn, resume=True).summary())
