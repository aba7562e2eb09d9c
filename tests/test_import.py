"""What `import pyexp` costs and gives: each fact is asked of a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import pyexp

#: What nobody should pay for who has only imported pyexp.
HEAVY = [
    "argparse", "cloudpickle", "concurrent.futures", "ctypes", "dataclasses", "difflib", "fnmatch", "hashlib",
    "importlib.metadata", "inspect", "json", "logging", "multiprocessing", "numpy", "pandas", "pathlib",
    "pickle", "pyrsistent", "ray", "rich", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "traceback", "xarray",
]  # fmt: skip


def fresh(code: str, folder: Path) -> str:
    """What the code prints in a fresh interpreter without site packages' start-up files of its own."""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_pyexp_imports_next_to_nothing(tmp_path: Path) -> None:
    home = str(Path(pyexp.__file__).parents[1])
    # -S and -I: without the start-up files of an environment, which may import anything themselves.
    code = (
        f"import sys; sys.path.append({home!r}); before = set(sys.modules); import pyexp; "
        f"print(sorted(name for name in {HEAVY} if name in sys.modules and name not in before))"
    )
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], check=False, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == "[]"


def test_a_script_that_declares_an_experiment_loads_nothing_that_runs_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pyexp import experiment, sweep; experiment(lambda config: 1).configs(list)\n"
        "runs = ('shell', 'commandline', 'runner', 'executors', 'look')\n"
        "print([name for name in sys.modules if name.startswith('pyexp.') and name.split('.')[1] in runs])"
    )
    assert fresh(code, tmp_path) == "[]"


@pytest.mark.parametrize("name", pyexp.__all__)
def test_every_public_name_loads_first_in_a_fresh_process(name: str, tmp_path: Path) -> None:
    assert fresh(f"from pyexp import {name}; print({name} is not None)", tmp_path) == "True"


def test_the_public_names_are_those_that_have_a_home() -> None:
    assert sorted(pyexp.__all__) == sorted(["__version__", *pyexp._HOME])


def test_a_star_import_gives_every_public_name(tmp_path: Path) -> None:
    code = "import pyexp; from pyexp import *; print(all(name in globals() for name in pyexp.__all__))"
    assert fresh(code, tmp_path) == "True"


def test_dir_lists_every_public_name(tmp_path: Path) -> None:
    assert fresh("import pyexp; print(set(pyexp.__all__) <= set(dir(pyexp)))", tmp_path) == "True"


@pytest.mark.parametrize("name", ["sweep", "experiment"])
@pytest.mark.parametrize("how", ["import pyexp.{0}", "from pyexp.{0} import __doc__", "from pyexp import {0}"])
def test_a_function_wins_over_the_module_of_its_name(name: str, how: str, tmp_path: Path) -> None:
    code = f"import pyexp.plan; {how.format(name)}; from pyexp import {name}; print(type({name}).__name__)"
    assert fresh(code, tmp_path) == "function"


def test_the_module_beneath_a_function_is_still_to_be_had(tmp_path: Path) -> None:
    assert fresh("from pyexp.sweep import Variation; print(Variation.__name__)", tmp_path) == "Variation"


def test_an_unknown_name_is_an_attribute_error(tmp_path: Path) -> None:
    code = "import pyexp\ntry: pyexp.swep\nexcept AttributeError as error: print(error)"
    assert fresh(code, tmp_path) == "module 'pyexp' has no attribute 'swep'"


def test_the_package_has_its_types_and_version() -> None:
    assert (Path(pyexp.__file__).parent / "py.typed").exists()
    assert pyexp.__version__.count(".") == 2


def test_a_worker_imports_nothing_that_its_cell_does_not_need(tmp_path: Path) -> None:
    """Every cell pays for what its worker imports."""
    code = "import sys; import pyexp.worker.main; print(sorted(set({!r}) & set(sys.modules)))".format(
        ["pyrsistent", "cloudpickle", "numpy", "argparse", "json", "subprocess", "hashlib", "dataclasses", "inspect"]
    )
    assert fresh(code, tmp_path) == "[]"
