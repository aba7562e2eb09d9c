"""Two families of models learn to read handwritten digits from more and more examples, three times each.

python examples/digits.py                 # 18 cells, each in its own process; a table and a picture with error bars
python examples/digits.py --report        # the same table and picture, from what is on disk
"""

from pathlib import Path
from statistics import fmean, stdev

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import pyexp
from pyexp import Config, Result, Tensor, sweep


@pyexp.experiment(name="digits", jobs="auto")
def experiment(config: Config) -> dict[str, float]:
    train, test = images(config)
    model = made(config.model).fit(*train)
    joblib.dump(model, config.out / "model.joblib")
    return {
        "accuracy": model.score(*test),
        "train_accuracy": model.score(*train),
    }


def images(config: Config):
    """The images to learn from and the images to be tested on, each with their digits; the seed says which."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / config.data.scale,
        y,
        train_size=config.data.train,
        test_size=config.data.test,
        stratify=y,
        random_state=config.seed,
    )
    return (x_train, y_train), (x_test, y_test)


def made(model: Config):
    """The untrained model that a config describes."""
    kinds = {"svc": SVC, "mlp": MLPClassifier}
    return kinds[model.kind](**{key: value for key, value in model.items() if key != "kind"})


@experiment.configs
def configs():
    cfgs = [{"name": "digits", "data": {"scale": 1, "train": 100, "test": 600}}]
    cfgs = sweep(
        cfgs,
        [
            {"name": "svc", "model": {"kind": "svc", "C": 10.0, "gamma": 0.001}},
            {
                "name": "mlp",
                "model": {"kind": "mlp", "hidden_layer_sizes": (64,), "learning_rate_init": 0.01, "random_state": 0},
                "data.scale": 16,  # a dotted key changes this one value, and leaves the rest of data alone
            },
        ],
        axis="model",
    )
    cfgs = sweep(cfgs, [{"name": f"n{n}", "data.train": n} for n in (50, 250, 1000)])
    return sweep(cfgs, [{"name": f"s{seed}", "seed": seed} for seed in range(3)])


@experiment.report
def report(results: Tensor[Result]) -> None:
    grid = results[0, ...]  # the first axis has one position only; left are model, data.train and seed
    models, sizes = grid.axes[0].coords, grid.axes[1].coords
    curves = {model: [accuracies(grid.sel({"model": model, "data.train": n})) for n in sizes] for model in models}

    print(f"accuracy over {grid.shape[2]} seeds, mean ± standard deviation, by number of images to learn from\n")
    print("model" + "".join(f"{n:>16}" for n in sizes))
    for model, curve in curves.items():
        shown = [f"{fmean(found):.3f} ± {deviation(found):.3f}" if found else "failed" for found in curve]
        print(f"{model:5}" + "".join(f"{text:>16}" for text in shown))

    folder = results[0].out.parent
    picture(grid, curves, sizes, folder / "accuracy.png")
    print(f"\nLook at {folder}: accuracy.png is the picture, each cell's folder holds its model and its log.")


def accuracies(cells: Tensor[Result]) -> list[float]:
    """The accuracy of every cell that did not fail."""
    return [cell["accuracy"] for cell in cells if not cell.get("__error__")]


def deviation(found: list[float]) -> float:
    """The standard deviation of a sample; 0 if there is one value only."""
    return stdev(found) if len(found) > 1 else 0.0


def picture(grid: Tensor[Result], curves: dict[str, list[list[float]]], sizes: list[int], path: Path) -> None:
    """Draw the curves with error bars, and beside them some images that the best model misreads."""
    import matplotlib

    matplotlib.use("Agg")  # writes files, and needs no screen
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    axes = left.subplots()
    for model, curve in curves.items():
        known = [(n, fmean(found), deviation(found)) for n, found in zip(sizes, curve, strict=True) if found]
        axes.errorbar(*zip(*known, strict=True), label=model, marker="o", capsize=4)
    axes.set(xscale="log", xlabel="images to learn from", ylabel="accuracy on 600 others")
    axes.set_title("Reading digits: mean and standard deviation over seeds")
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()

    best = max((cell for cell in grid if not cell.get("__error__")), key=lambda cell: cell["accuracy"])
    right.suptitle(f"{best.name} misreads (written → read)", fontsize="medium")
    for place, (image, written, read) in zip(right.subplots(2, 4).flat, misread(best), strict=False):
        place.imshow(image.reshape(8, 8), cmap="gray_r")
        place.set(title=f"{written} → {read}")
    for place in right.axes:
        place.set_axis_off()
    figure.savefig(path, dpi=120)


def misread(cell: Result):
    """The test images that the cell's saved model reads wrongly, each with the digit that it is and the one read."""
    model = joblib.load(cell.out / "model.joblib")
    _, (x, y) = images(cell.config)
    read = model.predict(x)
    return [(x[i], y[i], read[i]) for i in (read != y).nonzero()[0]]


if __name__ == "__main__":
    experiment.run()
