"""What a cell on Ray is called through, in its child: a module of its own, as every cell pays for its imports."""

import pickle
from pathlib import Path
from typing import Any

from pyexp.dotted import Config


def call(fn: bytes, folder: str, config: Config) -> Any:
    """What the pickled function returns for the config, whose `out` is a folder of this node."""
    config["out"] = Path(folder)
    return pickle.loads(fn)(config)
