"""How fast do three methods for differential equations converge, and where do they break?

python examples/convergence.py    # 90 cells, then the orders of convergence and a heat-map, by xarray

The equation is y' = -λ (y - cos t) - sin t, which cos t solves. The larger λ, the more steps a method needs before it
converges at all: the grey wedge of the heat-map. Needs `pip install xarray matplotlib`.
"""

import math

import pyexp
from pyexp import Config, sweep


@pyexp.experiment(name="convergence", jobs=2)
def experiment(config: Config):
    def slope(t, y):
        return -config.stiffness * (y - math.cos(t)) - math.sin(t)

    t, y, h = 0.0, 1.0, 10 / config.steps
    for step in range(config.steps):
        y += h * METHODS[config.method](slope, t, y, h)
        t = 10 * (step + 1) / config.steps
        if abs(y) > 1e6:
            return {"error": math.nan, "broke_at": t}
    return {"error": abs(y - math.cos(t))}


def euler(slope, t, y, h):
    return slope(t, y)


def heun(slope, t, y, h):
    first = slope(t, y)
    return (first + slope(t + h, y + h * first)) / 2


def runge_kutta(slope, t, y, h):
    first = slope(t, y)
    second = slope(t + h / 2, y + h / 2 * first)
    third = slope(t + h / 2, y + h / 2 * second)
    return (first + 2 * second + 2 * third + slope(t + h, y + h * third)) / 6


METHODS = {"euler": euler, "heun": heun, "runge_kutta": runge_kutta}


@experiment.configs
def configs():
    grid = sweep([{"name": "ode"}], [{"name": method, "method": method} for method in METHODS])
    grid = sweep(grid, [{"name": f"s{10**n}", "stiffness": 10.0**n} for n in range(5)])
    return sweep(grid, [{"name": f"n{steps}", "steps": steps} for steps in (16, 64, 256, 1024, 4096, 16384)])


@experiment.report
def report(results):
    import matplotlib

    matplotlib.use("Agg")  # writes files, and needs no screen
    import numpy as np

    error = results[0, ...].to_xarray()["error"]  # dimensions method, stiffness, steps
    print("order of convergence at stiffness 10: how much the error falls from 256 to 1024 steps")
    gentle = error.sel(stiffness=10.0)
    orders = np.log(gentle.sel(steps=256) / gentle.sel(steps=1024)) / np.log(4)
    print(orders.to_series().round(1).to_string(header=False))

    logarithms = error.assign_coords(stiffness=np.log10(error.stiffness), steps=np.log2(error.steps))
    plot = np.log10(logarithms).rename("log10 error").plot(col="method", x="steps", y="stiffness", cmap="viridis_r")
    plot.set_axis_labels("log2 steps", "log10 stiffness")
    for axes in plot.axs.flat:
        axes.set_facecolor("lightgrey")
    path = results[0].out.parent / "error.png"
    plot.fig.savefig(path, dpi=120)
    print(f"Look at {path}: grey is where a method breaks")


if __name__ == "__main__":
    experiment.run()
