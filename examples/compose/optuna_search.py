"""Optuna suggests cells of a lazy grid of a million, and pyexp runs them, in batches of four.

python examples/compose/optuna_search.py       # 24 trials; kill it at any time
python examples/compose/optuna_search.py 32    # goes on where it was, up to 32 trials

No cell runs twice: pyexp loads a cell that Optuna asks for again, and one that had finished before a kill. Needs
`pip install optuna`.
"""

import sys
from pathlib import Path

import optuna
from optuna.trial import TrialState
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import pyexp
from pyexp import config_hash, sweep

grid = sweep([{"name": "svc"}], [{"name": f"C{i}", "C": 10 ** (i / 250)} for i in range(-500, 500)])
grid = sweep(grid, [{"name": f"gamma{i}", "gamma": 10 ** (i / 250)} for i in range(-1000, 0)])


@pyexp.experiment(timestamp="study", executor="fork", jobs=2, quiet=True)  # fork: each batch starts at once
def svc(config):
    with (config.out.parent / "ran.txt").open("a") as ran:
        ran.write(f"{config.name}\n")
    model = make_pipeline(StandardScaler(), SVC(C=config.C, gamma=config.gamma))
    return {"accuracy": cross_val_score(model, *load_wine(return_X_y=True), cv=5).mean()}


def cell_of(trial):
    """The cell of the grid at the trial's position."""
    return grid[(0, *(trial.suggest_int(axis.name, 0, len(axis.coords) - 1) for axis in grid.axes[1:]))]


def search(trials):
    Path("out").mkdir(exist_ok=True)
    journal = optuna.storages.journal.JournalFileBackend("out/optuna.journal")
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(journal), study_name="svc", load_if_exists=True, direction="maximize"
    )
    asked = study.get_trials(states=[TrialState.RUNNING])  # suggested before a kill, without a result
    while True:
        while len(asked) < 4 and len(study.trials) < trials:
            asked.append(study.ask())
        if not asked:
            return study
        cells = {trial.number: cell_of(trial) for trial in asked}
        batch = {config_hash(cell): cell for cell in cells.values()}  # two trials may have one cell
        results = svc.run(configs=list(batch.values()), argv=[], report=lambda results: results)
        found = dict(zip(batch, results, strict=True))
        for number, cell in cells.items():
            result = found[config_hash(cell)]
            if result.get("__error__"):
                study.tell(number, state=TrialState.FAIL)
            else:
                study.tell(number, result["accuracy"])
        asked = []


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = search(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
    ran = Path("out/svc/study/ran.txt").read_text().split()
    told = study.get_trials(states=[TrialState.COMPLETE])
    print(f"{len(told)} trials of {grid.size} cells; {len(ran)} cells ran, {len(set(ran))} of them different")
    print(f"best: {cell_of(study.best_trial)['name']} with an accuracy of {study.best_value:.3f}")
