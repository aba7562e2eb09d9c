"""A search by scikit-learn over a grid that it cannot say: a sample of a large one, without senseless cells.

python examples/compose/search.py

`RandomizedSearchCV` draws each parameter by itself. Here the kernel decides which other parameters there are.
"""

from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pyexp import concat, sample, sweep, thaw

base = sweep([{}], [{"svc__C": 10 ** (i / 10)} for i in range(-30, 31)])
linear = sweep(base, [{"svc__kernel": "linear"}])
radial = sweep(sweep(base, [{"svc__kernel": "rbf"}]), [{"svc__gamma": 10 ** (i / 10)} for i in range(-40, 11)])
sensible = radial.where(lambda config: config["svc__C"] * config["svc__gamma"] < 10)
candidates = concat([sample(linear, 5, seed=0), sample(sensible, 15, seed=0)])

if __name__ == "__main__":
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC()),
        [{key: [value] for key, value in thaw(config).items()} for config in candidates],
        cv=3,
    )
    search.fit(*load_wine(return_X_y=True))
    print(f"{len(candidates)} candidates of {base.size + radial.size}")
    for place in search.cv_results_["rank_test_score"].argsort()[:3]:
        print(f"{search.cv_results_['mean_test_score'][place]:.3f}", search.cv_results_["params"][place])
