"""PyTorch with checkpoints: a cell that is killed goes on from its last epoch, and ends with the same numbers.

python examples/torch_resume.py               # two equal trainings; one is killed in the middle
python examples/torch_resume.py --continue    # it goes on from its checkpoint: two equal curves, and a picture

Needs `pip install torch`.
"""

import os
import signal

import torch
from torch import nn

import pyexp
from pyexp import Config


@pyexp.experiment(name="torch_resume", jobs=2)
def train(config: Config):
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)  # two cells share two cores
    images, digits = data()
    model = nn.Sequential(nn.Linear(64, config.width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(config.width, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    losses, starts = [], []

    checkpoint = config.out / "checkpoint.pt"  # the folder of a cell that failed is kept
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])  # without it, dropout and the order of the images would differ
        losses, starts = saved["losses"], saved["starts"]
    starts.append(len(losses))

    for epoch in range(len(losses), config.epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(1500).split(100):
            loss = nn.functional.cross_entropy(model(images[batch]), digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / 15)
        print(f"epoch {epoch}: loss {losses[-1]:.4f}")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
        torch.save({**state, "losses": losses, "starts": starts}, checkpoint.with_suffix(".new"))
        os.replace(checkpoint.with_suffix(".new"), checkpoint)  # a kill leaves the old checkpoint or the new one
        if config.killed and starts == [0] and epoch == config.epochs // 2:
            os.kill(os.getpid(), signal.SIGKILL)  # as the out-of-memory killer does, or a colleague

    model.eval()
    with torch.no_grad():
        right = (model(images[1500:]).argmax(1) == digits[1500:]).float().mean().item()
    return {"accuracy": right, "loss": losses[-1], "starts": starts, "losses": losses}


def data():
    """The images and digits of scikit-learn's data set: 1500 to learn from, the rest to test on."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)


@train.configs
def configs():
    base = {"seed": 0, "width": 128, "lr": 0.003, "epochs": 40}
    return [{"name": "whole", **base, "killed": False}, {"name": "killed", **base, "killed": True}]


@train.report
def report(results):
    import matplotlib

    matplotlib.use("Agg")  # writes files, and needs no screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(layout="constrained")
    for cell, style in zip(results, ("o", "-"), strict=True):
        if cell.get("__error__"):
            print(f"{cell.name}: {cell['message']}")
            continue
        print(f"{cell.name}: accuracy {cell['accuracy']:.3f}, begun at epoch {cell['starts']}")
        axes.plot(cell["losses"], style, label=f"{cell.name}, begun at epoch {cell['starts']}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend()
    path = results[0].out.parent / "losses.png"
    figure.savefig(path, dpi=120)
    done = [cell["losses"] for cell in results if not cell.get("__error__")]
    if len(done) == 2:
        print(f"the curves are equal: {done[0] == done[1]}")
    print(f"Look at {path}")


if __name__ == "__main__":
    train.run()
