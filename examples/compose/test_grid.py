"""Grids without an experiment: pytest's parameters are the cells of a sweep.

python -m pytest -p no:cacheprovider -q examples/compose/test_grid.py

The names of the cells are the names of the tests, and `config["name"]` is what to give to `-k`.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge

from pyexp import Config, concat, merge, sample, sweep, thaw

BASE = {"name": "ridge", "model": {"alpha": 1.0, "solver": "auto"}, "data": {"rows": 50, "columns": 4, "seed": 0}}

grid = sweep([BASE], [{"name": solver, "model.solver": solver} for solver in ("svd", "cholesky", "lsqr", "sag")])
grid = sweep(grid, [{"name": f"alpha{alpha}", "model.alpha": alpha} for alpha in (0.1, 1.0, 10.0)])
grid = sweep(grid, [{"name": f"{n}columns", "data.columns": n} for n in (1, 4, 60)])

#: All of 36 cells would be slow in a larger project: the wide ones, and a sample of the others.
CASES = concat([grid.sel({"data.columns": 60}), sample(grid.where(lambda c: c["data"]["columns"] < 60), 8, seed=0)])


@pytest.fixture(params=CASES, ids=lambda config: config["name"])
def config(request):
    return Config(thaw(request.param))


def fitted(config):
    random = np.random.default_rng(config.data.seed)
    x = random.normal(size=(config.data.rows, config.data.columns))
    y = x.sum(axis=1) + random.normal(size=config.data.rows)
    return Ridge(**config.model, tol=1e-10, max_iter=100_000, random_state=0).fit(x, y), x, y


def test_every_solver_finds_what_the_exact_one_finds(config):
    model, x, y = fitted(config)
    exact = clone(model).set_params(solver="svd").fit(x, y)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-4)


def test_a_larger_penalty_makes_smaller_weights(config):
    small, *_ = fitted(config)
    large, *_ = fitted(Config(thaw(merge(config, {"model.alpha": 100 * config.model.alpha}))))
    assert np.linalg.norm(large.coef_) < np.linalg.norm(small.coef_)
