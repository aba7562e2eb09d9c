"""A cache that machines and versions of Python share: the key is `config_hash`, and the rest is joblib.

python examples/compose/cache_key.py    # computes three sets of features
python examples/compose/cache_key.py    # loads them

`joblib.Memory` and `diskcache.memoize` make their keys from pickles and paths, which differ from one version of Python,
NumPy or the script to the next. `config_hash` is the same for the same values everywhere. It is a short string, so it
is a key for diskcache, Redis or a bucket too: `diskcache.Cache("cache")[config_hash(config)]`.
"""

from pathlib import Path

import joblib

from pyexp import config_hash, sweep, thaw

CACHE = Path("cache")


def cached(fn, config):
    """What `fn` returns for the config: from the cache, if it has been called with an equal one."""
    path = CACHE / f"{fn.__name__}-{config_hash(config)}.joblib"
    if path.exists():
        print("loaded  ", path.name)
        return joblib.load(path)
    value = fn(**thaw(config))
    path.parent.mkdir(exist_ok=True)
    joblib.dump(value, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)  # nobody finds half a file
    print("computed", path.name)
    return value


def features(components, whiten):
    from sklearn.datasets import load_digits  # not needed where all is in the cache
    from sklearn.decomposition import PCA

    images, _ = load_digits(return_X_y=True)
    return PCA(components, whiten=whiten, random_state=0).fit_transform(images)


if __name__ == "__main__":
    for config in sweep([{"whiten": True}], [{"components": n} for n in (2, 8, 32)]):
        print(cached(features, config).shape)
    cached(features, {"components": 8, "whiten": True})  # the order of keys does not matter
