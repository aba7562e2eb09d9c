"""A phase transition on Ray: magnets at eight temperatures, whose pictures come back from the nodes.

python examples/with_ray.py

Needs `pip install 'ray[client]' numpy matplotlib`.
"""

import numpy as np

import pyexp
from pyexp import RayExecutor, sweep


@pyexp.experiment(name="with_ray")
def ising(config):
    """The Ising model of a magnet, by the Metropolis algorithm on the black and the white squares in turn."""
    random = np.random.default_rng(config.seed)
    spins = np.ones((config.size, config.size), dtype=int)
    black = np.indices(spins.shape).sum(axis=0) % 2 == 0
    found = []
    for step in range(config.steps):
        for colour in (black, ~black):
            around = sum(np.roll(spins, shift, axis) for axis in (0, 1) for shift in (1, -1))
            flips = random.random(spins.shape) < np.exp(-2 * spins * around / config.temperature)
            spins[colour & flips] *= -1
        if step >= config.steps // 2:
            found.append(abs(spins.mean()))
    np.save(config.out / "spins.npy", spins)  # comes back to the run's folder, from whatever machine
    return {"magnetisation": float(np.mean(found))}


@ising.configs
def configs():
    temperatures = (1.5, 1.8, 2.0, 2.2, 2.4, 2.6, 3.0, 3.5)
    base = [{"name": "ising", "size": 32, "steps": 1000, "seed": 0}]
    return sweep(base, [{"name": f"T{t}", "temperature": t} for t in temperatures])


@ising.report
def report(results):
    import matplotlib

    matplotlib.use("Agg")  # writes files, and needs no screen
    from matplotlib import pyplot

    figure, places = pyplot.subplots(2, 4, figsize=(8, 4.6), layout="constrained")
    figure.suptitle("Below a temperature of 2.27, a magnet stays one")
    for r, place in zip(results, places.flat, strict=True):
        print(f"{r.config.temperature:.1f} {r['magnetisation']:5.2f} {'#' * round(40 * r['magnetisation'])}")
        place.imshow(np.load(r.out / "spins.npy"), cmap="gray", vmin=-1, vmax=1)
        place.set(title=f"T = {r.config.temperature}", xticks=[], yticks=[])
    path = results[0].out.parent / "magnets.png"
    figure.savefig(path, dpi=120)
    print(f"Look at {path}")


if __name__ == "__main__":
    # Without an address, Ray starts here. For a cluster: address="auto" or "ray://cluster-head:10001", and
    # runtime_env={"working_dir": ".", "excludes": ["data/", "*.pt"], "pip": ["pandas"]} to send code along.
    ising.run(executor=RayExecutor(num_cpus=1))
