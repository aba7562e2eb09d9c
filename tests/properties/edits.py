"""Edits of a small project, each with what the fingerprint has to say of it: nothing, or the parts that differ."""

# ruff: noqa: E501  # a row of a table is a line, however long
# fmt: off

#: A project of a script, a module, a package, and a module that only the script's guard needs.
PROJECT = {
    "main": '''"""A script."""
import logging
import math
import os

import numpy as np

import helper
import patches
from helper import scale as scaled, unused
from nets import Net
from nets.layers import *
from pyexp import experiment, sweep

LR = 0.1
UNUSED = 3
STEPS = [1, 2]
GRID = []
OPTIONS = {"a": 1}
OPTIONS["b"] = 2
log = logging.getLogger(__name__)
np.seterr(all="ignore")

for width in (1, 2):
    GRID.append({"width": width, "lr": LR})


@experiment(jobs=2)
def experiment(config):
    """Train."""
    # A comment.
    net = Net(config.width, config["depth"])
    total = 0
    for step in STEPS:
        total += step * LR * scaled(net(step))
    unit = helper.metrics.score(total)
    return {"total": total, "unit": unit, "options": sorted(OPTIONS), "dense": dense(1)}


@experiment.initializer
def prepare():
    os.environ["READY"] = "1"
    helper.warm_up()


@experiment.configs
def configs():
    return [*GRID, {"width": UNUSED, "seed": 1}]


@experiment.report
def report(results):
    print(results)


def not_reached(x):
    return helper.other(x) + 1


if __name__ == "__main__":
    from plots import draw

    experiment.run(configs=[{"width": 8}])
    draw()
''',
    "helper": '''"""Help."""
import functools
from typing import overload

import nets.metrics as metrics

FACTOR = 2.0
CACHE = {}
_names = ("a", "b")


def scale(x: float, *, by=FACTOR) -> float:
    """Scale it."""
    if (memory := CACHE.get(x)) is not None:
        return memory
    return [_one(each) for each in (x,)][0] * by


def _one(x):
    match x:
        case [FIRST, *_]:
            return FIRST
        case float():
            return x
    return x + 0


def other(x):
    return x + OTHER


def unused(x): return x
OTHER = 5


def warm_up():
    global CACHE
    CACHE = {}
''',
    "nets": '''from .base import Base
from .layers import dense
from . import metrics

MODELS = {}


class Net(Base, kind="net"):
    """A net."""
    width: int = 3
    depth = 2
    names: "list[str]"

    def __init__(self, width, depth):
        super().__init__()
        self.width: int = width
        self.depth = depth

    def __call__(self, x):
        return dense(x) * self.width + self.depth
''',
    "nets.base": '''class Base:
    bias = 1

    def __init__(self):
        self.rate = self.bias

    def __init_subclass__(cls, kind=None):
        cls.kind = kind
''',
    "nets.layers": '''__all__ = ["dense", "wide"]
from math import tanh as squash

def dense(x):
    return squash(x)

def wide(x):
    return dense(x) * 2

def _hidden(x):
    return 0
''',
    "nets.metrics": '''import sys

if sys.platform == "win32":
    def score(x):
        return x / 2
else:
    def score(x):
        return x / EPSILON

try:
    from fast import EPSILON
except ImportError:
    EPSILON = 1e-3
''',
    "patches": '''import warnings
import helper
warnings.simplefilter("ignore")
helper.FACTOR = 3.0
''',
    "plots": '''import matplotlib
matplotlib.use("Agg")
def draw():
    return 1
''',
}

PACKAGES = {"nets"}

#: Edits of the project that change nothing: a name, the module, what is there, what is put there.
NEUTRAL = [
    ("comment", "main", "# A comment.", "# Another one, of\n    # two lines"),
    ("comment at the top", "main", "LR = 0.1", "# the rate\nLR = 0.1  # of learning"),
    ("docstring", "main", '"""Train."""', '"""Train it."""'),
    ("docstring gone", "main", '    """Train."""\n', ""),
    ("docstring of a module", "helper", '"""Help."""', '"""Help more."""'),
    ("docstring of a class", "nets", '"""A net."""', '"""A net.\n\n    With lines.\n    """'),
    ("docstring put in", "helper", "def _one(x):\n", 'def _one(x):\n    "One."\n'),
    ("string as a comment", "main", "    total = 0\n", '    "not a docstring"\n    total = 0\n'),
    ("blank lines", "main", "    total = 0\n", "\n\n    total = 0\n\n"),
    ("spaces", "main", "step * LR * scaled(net(step))", "step*LR  *  scaled( net( step ) )"),
    ("parentheses", "main", "step * LR * scaled(net(step))", "((step * LR) * (scaled(net((step)))))"),
    ("line breaks", "main", "step * LR * scaled(net(step))", "(\n step\n* LR\n* scaled(\nnet(step),\n)\n)"),
    ("backslash", "main", "total += step", "total += \\\nstep"),
    ("quotes", "main", 'config["depth"]', "config['''depth''']"),
    ("spelling of a text", "main", 'config["depth"]', 'config["d" "ep\\x74h"]'),
    ("prefix of a text", "main", 'config["depth"]', 'config[u"depth"]'),
    ("spelling of a float", "main", "LR = 0.1", "LR = 1_0.0e-2"),
    ("spelling of an int", "main", "total = 0", "total = 0x0"),
    ("trailing comma", "main", "STEPS = [1, 2]", "STEPS = [1, 2,]"),
    ("semicolon", "main", "LR = 0.1\nUNUSED = 3", "LR = 0.1; UNUSED = 3"),
    ("annotation of a global", "main", "LR = 0.1", "LR: float = 0.1"),
    ("annotation of a local", "main", "    total = 0\n", "    total: float = 0\n"),
    ("annotation of an argument", "main", "def experiment(config):", 'def experiment(config: "dict[str, int]") -> dict:'),
    ("annotation changed", "helper", "def scale(x: float, *, by=FACTOR) -> float:", "def scale(x, *, by: int = FACTOR):"),
    ("annotation of an attribute", "nets", "self.width: int = width", "self.width = width"),
    ("annotation in a class", "nets.base", "    bias = 1", "    bias: int = 1\n    other: str"),
    ("annotation alone", "main", "    total = 0\n", "    total: float\n    total = 0\n"),
    ("overload", "helper", "def _one(x):", "@overload\ndef _one(x: int) -> int: ...\n@overload\ndef _one(x: str): ...\ndef _one(x):"),
    ("import for types", "helper", "FACTOR = 2.0", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import big\nFACTOR = 2.0"),
    ("future annotations", "nets.base", "class Base", "from __future__ import annotations\nclass Base"),
    ("order of functions", "helper", "def other(x):\n    return x + OTHER\n\n\n", ""),
    ("function moved down", "nets.layers", "def dense(x):\n    return squash(x)\n\ndef wide(x):\n    return dense(x) * 2\n",
     "def wide(x):\n    return dense(x) * 2\ndef dense(x):\n    return squash(x)\n"),
    ("unused function put in", "helper", "FACTOR = 2.0\n", "FACTOR = 2.0\ndef fresh(x):\n    return other(x)\n"),
    ("unused function changed", "helper", "return x + OTHER", "return x - OTHER"),
    ("unused class put in", "nets", "MODELS = {}", "class Spare:\n    pass\nMODELS = {}"),
    ("decorated function put in", "helper", "def other", "@functools.cache\ndef spare(x): return x\ndef other"),
    ("unused import", "main", "import math\n", "import math\nimport json\nfrom collections import abc\n"),
    ("unused import of the project", "main", "import math\n", "import math\nimport nets.metrics\n"),
    ("unused import in a function", "main", "def not_reached(x):", "def not_reached(x):\n    import plots"),
    ("import gone", "main", "import math\n", ""),
    ("order of imports", "main", "import helper\nimport patches\n", "import patches\nimport helper\n"),
    ("order within an import", "main", "scale as scaled, unused", "unused, scale as scaled"),
    ("imports joined", "main", "import logging\nimport math\nimport os\n", "import logging, math, os\n"),
    ("unused global changed", "helper", "OTHER = 5", "OTHER = 6"),
    ("unused global renamed", "main", "UNUSED", "SPARE"),
    ("unused global changed by a call", "helper", "OTHER = 5", "OTHER = max(5, 6)"),
    ("guard", "main", '[{"width": 8}]', '[{"width": 16}, {"width": 32}]'),
    ("guard gone", "main", '    experiment.run(configs=[{"width": 8}])\n    draw()\n', "    pass\n"),
    ("import in the guard", "main", "from plots import draw\n", "from plots import draw\n    import patches2\n"),
    ("module of the guard", "plots", "Agg", "Svg"),
    ("configs", "main", '"seed": 1', '"seed": 2'),
    ("report", "main", "print(results)", "print(results, 1)"),
    ("grid", "main", "for width in (1, 2):", "for width in (1, 2, 3):"),
    ("options of the experiment", "main", "@experiment(jobs=2)", "@experiment(jobs=8, timeout=3)"),
    ("no options of the experiment", "main", "@experiment(jobs=2)", "@experiment"),
    ("function that is not reached", "main", "helper.other(x) + 1", "helper.other(x) + 2"),
    ("print", "main", 'np.seterr(all="ignore")', 'np.seterr(all="ignore")\nprint("starting", len(STEPS))'),
    ("log", "main", 'np.seterr(all="ignore")', 'np.seterr(all="ignore")\nlog.info("starting %s", LR)'),
    ("assert at the top", "main", "STEPS = [1, 2]", "STEPS = [1, 2]\nassert LR > 0"),
    ("type alias", "helper", "FACTOR = 2.0", 'Vector = "list[float]"\nFACTOR = 2.0'),
    ("version", "helper", "FACTOR = 2.0", '__version__ = "2"\n__author__ = "me"\nFACTOR = 2.0'),
    ("what is exported", "nets.layers", '"dense", "wide"]', '"wide", "dense", "spare"]'),
    ("pass", "nets.base", "    bias = 1\n", "    pass\n    bias = 1\n"),
    ("line ends", "main", "\n", "\r\n"),
    ("byte order mark", "main", '"""A script."""', '\ufeff"""A script."""'),
    ("no line end at the end", "patches", "helper.FACTOR = 3.0\n", "helper.FACTOR = 3.0"),
    ("unused local class", "helper", "def other(x):", "def other(x):\n    class Local: pass"),
]

#: Edits of the project that change something, and what the difference is called.
CHANGES = [
    ("operator", "main", "total += step", "total -= step", "main.experiment changed"),
    ("int for float", "main", "    total = 0\n", "    total = 0.0\n", "main.experiment changed"),
    ("bool for int", "main", "    total = 0\n", "    total = False\n", "main.experiment changed"),
    ("minus zero", "main", "LR = 0.1", "LR = -0.0", "main.LR changed"),
    ("bytes for text", "main", 'config["depth"]', 'config[b"depth"]', "main.experiment changed"),
    ("key", "main", '"unit": unit', '"units": unit', "main.experiment changed"),
    ("local renamed", "main", "total", "sum_", "main.experiment changed"),
    ("argument renamed", "helper", "def _one(x):\n    match x:", "def _one(y):\n    x = y\n    match x:", "helper._one changed"),
    ("global", "main", "LR = 0.1", "LR = 0.2", "main.LR changed"),
    ("global set again", "main", "UNUSED = 3", "UNUSED = 3\nLR = LR / 2", "main.LR changed"),
    ("global changed in place", "main", "UNUSED = 3", "UNUSED = 3\nSTEPS = [1]\nSTEPS.append(3)", "main.STEPS changed"),
    ("global grown", "main", "UNUSED = 3\nSTEPS = [1, 2]", "STEPS = [1, 2]\nSTEPS += [3]", "main.STEPS changed"),
    ("global item", "main", 'OPTIONS["b"] = 2', 'OPTIONS["b"] = 3', "main.OPTIONS changed"),
    ("global item gone", "main", 'OPTIONS["b"] = 2\n', "", "main.OPTIONS changed"),
    ("global item deleted", "main", 'OPTIONS["b"] = 2', 'OPTIONS["b"] = 2\ndel OPTIONS["a"]', "main.OPTIONS changed"),
    ("global updated", "main", 'OPTIONS["b"] = 2', "OPTIONS.update(b=2)", "main.OPTIONS changed"),
    ("global set in the guard", "main", '__main__":\n', '__main__":\n    LR = 3\n', "main.LR changed"),
    ("global changed in the guard", "main", '__main__":\n', '__main__":\n    STEPS.append(3)\n', "main.STEPS changed"),
    ("global in a loop", "main", '"lr": LR})', '"lr": LR})\n    STEPS.append(width)', "main.GRID is new, main.STEPS changed, main.width is new"),
    ("side effect", "main", 'np.seterr(all="ignore")', 'np.seterr(all="raise")', "main.<module> changed"),
    ("side effect put in", "main", "UNUSED = 3", "UNUSED = 3\nos.umask(3)", "main.<module> changed"),
    ("side effect kept", "main", "UNUSED = 3", "UNUSED = np.seterr(over='raise')", "main.<module> changed"),
    ("environment", "main", "UNUSED = 3", 'UNUSED = 3\nos.environ["X"] = "1"', "main.<module> changed"),
    ("side effects swapped", "patches", 'warnings.simplefilter("ignore")\nhelper.FACTOR = 3.0\n',
     'helper.FACTOR = 3.0\nwarnings.simplefilter("ignore")\n', "patches.<module> changed"),
    ("configuring", "main", "UNUSED = 3", "UNUSED = 3\nhelper.warm_up()", "main.<module> changed"),
    ("patch of a module", "patches", "helper.FACTOR = 3.0", "helper.FACTOR = 4.0", "patches.<module> changed"),
    ("module with effects not imported", "main", "import patches\n", "", "patches.<module> is gone"),
    ("initializer", "main", 'os.environ["READY"] = "1"', 'os.environ["READY"] = "2"', "main.prepare changed"),
    ("what the initializer calls", "helper", "    global CACHE\n    CACHE = {}", "    global CACHE\n    CACHE = {1: 2}", "helper.CACHE changed, helper.warm_up changed"),
    ("helper", "helper", "(x,)][0] * by", "(x,)][0] / by", "helper.scale changed"),
    ("default by a global", "helper", "FACTOR = 2.0", "FACTOR = 4.0", "helper.FACTOR changed"),
    ("default", "helper", "by=FACTOR", "by=FACTOR + 1", "helper.scale changed"),
    ("keyword made positional", "helper", "x: float, *, by", "x: float, by", "helper.scale changed"),
    ("helper of a helper", "helper", "return x + 0", "return x + 1", "helper._one changed"),
    ("pattern", "helper", "case float():", "case int():", "helper._one changed"),
    ("import as", "main", "from helper import scale as scaled, unused", "from helper import unused as scaled",
     "helper._one is gone, helper.scale is gone, helper.unused is new, main.experiment changed"),
    ("method", "nets", "* self.width + self.depth", "* self.width - self.depth", "nets.Net changed"),
    ("class attribute", "nets", "depth = 2", "depth = 3", "nets.Net changed"),
    ("annotation of a class that is not plain", "nets", "width: int = 3", "width: float = 3", "nets.Net changed"),
    ("keyword of a class", "nets", 'kind="net"', 'kind="nets"', "nets.Net changed"),
    ("base class", "nets.base", "bias = 1", "bias = 2", "nets.base.Base changed"),
    ("base class of a package", "nets", "from .base import Base", "from .layers import wide as Base", "nets.Net changed, nets.base.Base is gone, nets.layers.wide is new"),
    ("through a package", "nets.layers", "return squash(x)", "return squash(x) + 1", "nets.layers.dense changed"),
    ("import of the library", "nets.layers", "from math import tanh as squash", "from math import sinh as squash", "nets.layers.dense changed"),
    ("conditional", "nets.metrics", "x / EPSILON", "x * EPSILON", "nets.metrics.score changed"),
    ("other condition", "nets.metrics", "x / 2", "x / 3", "nets.metrics.score changed"),
    ("condition", "nets.metrics", '"win32"', '"darwin"', "nets.metrics.score changed"),
    ("fallback", "nets.metrics", "EPSILON = 1e-3", "EPSILON = 1e-4", "nets.metrics.EPSILON changed"),
    ("import that may fail", "nets.metrics", "from fast import", "from faster import", "nets.metrics.EPSILON changed, nets.metrics.score changed"),
    ("module of an import", "helper", "import nets.metrics as metrics", "import nets as metrics", "main.experiment changed, nets.metrics.EPSILON is gone, nets.metrics.score is gone"),
    ("decorator", "helper", "def _one(x):", "@functools.cache\ndef _one(x):", "helper._one changed"),
    ("order of statements", "main", "    total = 0\n    for step", "    for step", "main.experiment changed"),
    ("async", "helper", "def _one(x):", "async def _one(x):", "helper._one changed"),
    ("return gone", "helper", "        return memory", "        memory", "helper.scale changed"),
    ("global named in the star", "nets.layers", '"dense", "wide"]', '"wide"]', "main.experiment changed"),
]

#: Small projects of one purpose: what the function `f` of `main` reaches, before and after, and the difference.
PAIRS: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    (
        "swapped imports",
        {"main": "from h import a as x, b as y\ndef f(c): return x(c) - y(c)", "h": "def a(c): return 1\ndef b(c): return 2"},
        {"main": "from h import b as x, a as y\ndef f(c): return x(c) - y(c)", "h": "def a(c): return 1\ndef b(c): return 2"},
        "main.f changed",
    ),
    ("a function used between its two definitions", {"main": "def g(c): return 1\nh = [g]\ndef g(c): return 2\ndef f(c): return h, g"},
     {"main": "def g(c): return 1\ndef g(c): return 2\nh = [g]\ndef f(c): return h, g"}, "main.h changed"),
    ("imported by name before a patch", {"main": "import h\nfrom h import a\nh.a = 2\ndef f(c): return a", "h": "a = 1"},
     {"main": "import h\nh.a = 2\nfrom h import a\ndef f(c): return a", "h": "a = 1"}, "main.f changed"),
    ("a global that a function sets, after a tab", {"main": "K = 0\ndef g():\n    global\tK\n    K = 1\ndef f(c): return K"},
     {"main": "K = 0\ndef g():\n    global\tK\n    K = 2\ndef f(c): return K"}, "main.K changed"),
    ("library swapped", {"main": "import numpy as np\ndef f(c): return np.sum(c)"},
     {"main": "import cupy as np\ndef f(c): return np.sum(c)"}, "main.f changed"),
    ("star of the library", {"main": "def f(c): return sum(c)"},
     {"main": "from numpy import *\ndef f(c): return sum(c)"}, "main.f changed"),
    ("builtin covered", {"main": "def f(c): return sum(c)"},
     {"main": "def f(c): return sum(c)\ndef sum(c): return 0"}, "main.f changed, main.sum is new"),
    ("builtin covered by a star", {"main": "from h import *\ndef f(c): return sum(c)", "h": "x = 1"},
     {"main": "from h import *\ndef f(c): return sum(c)", "h": "x = 1\ndef sum(c): return 0"},
     "h.sum is new, main.f changed"),
    ("local covers a global", {"main": "x = 1\ndef f(c):\n    x = 2\n    return x"},
     {"main": "x = 3\ndef f(c):\n    x = 2\n    return x"}, ""),
    ("argument covers a global", {"main": "x = 1\ndef f(x): return [y for y in x]"},
     {"main": "x = 3\ndef f(x): return [y for y in x]"}, ""),
    ("comprehension covers a global", {"main": "x = 1\ndef f(c): return [x for x in c]"},
     {"main": "x = 3\ndef f(c): return [x for x in c]"}, ""),
    ("first iterable is outside", {"main": "x = [1]\ndef f(c): return [x for x in x]"},
     {"main": "x = [3]\ndef f(c): return [x for x in x]"}, "main.x changed"),
    ("walrus in a comprehension covers", {"main": "y = 1\ndef f(c): return [(y := x) for x in c], y"},
     {"main": "y = 2\ndef f(c): return [(y := x) for x in c], y"}, ""),
    ("exception name covers", {"main": "e = 1\ndef f(c):\n    try: c()\n    except ValueError as e: return e"},
     {"main": "e = 2\ndef f(c):\n    try: c()\n    except ValueError as e: return e"}, ""),
    ("class does not cover for its methods", {"main": "x = 1\nclass A:\n    x = 2\n    def m(self): return x\ndef f(c): return A()"},
     {"main": "x = 3\nclass A:\n    x = 2\n    def m(self): return x\ndef f(c): return A()"}, "main.x changed"),
    ("class covers in its body", {"main": "x = 1\nclass A:\n    x = 2\n    y = x\ndef f(c): return A()"},
     {"main": "x = 3\nclass A:\n    x = 2\n    y = x\ndef f(c): return A()"}, ""),
    ("class uses a global before it covers", {"main": "x = 1\nclass A:\n    x = x\ndef f(c): return A()"},
     {"main": "x = 3\nclass A:\n    x = x\ndef f(c): return A()"}, "main.x changed"),
    ("nested function", {"main": "x = 1\ndef f(c):\n    def g(): return x\n    return g()"},
     {"main": "x = 3\ndef f(c):\n    def g(): return x\n    return g()"}, "main.x changed"),
    ("closure covers", {"main": "x = 1\ndef f(x):\n    def g():\n        nonlocal x\n        x += 1\n    return g()"},
     {"main": "x = 3\ndef f(x):\n    def g():\n        nonlocal x\n        x += 1\n    return g()"}, ""),
    ("global statement", {"main": "x = 1\ndef f(c):\n    global x\n    x = 2\n    return g()\ndef g(): return 1"},
     {"main": "x = 3\ndef f(c):\n    global x\n    x = 2\n    return g()\ndef g(): return 1"}, "main.x changed"),
    ("lambda", {"main": "x = 1\nf = lambda c: x"}, {"main": "x = 3\nf = lambda c: x"}, "main.x changed"),
    ("match covers", {"main": "x = y = z = 1\ndef f(c):\n    match c:\n        case {'a': x, **y}: return x, y\n        case [*z]: return z"},
     {"main": "x = y = z = 3\ndef f(c):\n    match c:\n        case {'a': x, **y}: return x, y\n        case [*z]: return z"}, ""),
    ("value in a pattern", {"main": "class K: A = 1\ndef f(c):\n    match c:\n        case K.A: return 1"},
     {"main": "class K: A = 2\ndef f(c):\n    match c:\n        case K.A: return 1"}, "main.K changed"),
    ("import in a function", {"main": "def f(c):\n    import h.sub as s\n    return s.g(c)", "h": "", "h.sub": "def g(c): return 1\ndef k(): 1"},
     {"main": "def f(c):\n    import h.sub as s\n    return s.g(c)", "h": "", "h.sub": "def g(c): return 2\ndef k(): 2"},
     "h.sub.g changed"),
    ("import in a method", {"main": "class A:\n    def m(self):\n        from h import g\n        return lambda: g()\ndef f(c): return A()", "h": "def g(): return 1"},
     {"main": "class A:\n    def m(self):\n        from h import g\n        return lambda: g()\ndef f(c): return A()", "h": "def g(): return 2"},
     "h.g changed"),
    ("import in a class", {"main": "class A:\n    from h import g\n    x = g()\ndef f(c): return A()", "h": "def g(): return 1"},
     {"main": "class A:\n    from h import g\n    x = g()\ndef f(c): return A()", "h": "def g(): return 2"}, "h.g changed"),
    ("effects of an import in a function", {"main": "def f(c):\n    import h", "h": "import os\nos.umask(1)"},
     {"main": "def f(c):\n    import h", "h": "import os\nos.umask(2)"}, "h.<module> changed"),
    ("attributes of modules", {"main": "import h.sub\ndef f(c): return h.sub.g(c)", "h": "", "h.sub": "def g(c): return 1\ndef k(): 1"},
     {"main": "import h.sub\ndef f(c): return h.sub.g(c)", "h": "", "h.sub": "def g(c): return 2\ndef k(): 2"}, "h.sub.g changed"),
    ("package without a file", {"main": "import n.sub\ndef f(c): return n.sub.g(c)", "n.sub": "def g(c): return 1\ndef k(): 1"},
     {"main": "import n.sub\ndef f(c): return n.sub.g(c)", "n.sub": "def g(c): return 2\ndef k(): 2"}, "n.sub.g changed"),
    ("module as a value", {"main": "import h\ndef f(c): return vars(h)[c]", "h": "def g(): return 1"},
     {"main": "import h\ndef f(c): return vars(h)[c]", "h": "def g(): return 2"}, "h.g changed"),
    ("getattr by a constant", {"main": "import h\ndef f(c): return getattr(h, 'g')", "h": "def g(): return 1\ndef k(): return 1"},
     {"main": "import h\ndef f(c): return getattr(h, 'g')", "h": "def g(): return 2\ndef k(): return 2"}, "h.g changed"),
    ("getattr by a name", {"main": "import h\ndef f(c): return getattr(h, c)", "h": "def g(): return 1"},
     {"main": "import h\ndef f(c): return getattr(h, c)", "h": "def g(): return 2"}, "h.g changed"),
    ("import_module", {"main": "import importlib\ndef f(c): return importlib.import_module('h').g()", "h": "def g(): return 1"},
     {"main": "import importlib\ndef f(c): return importlib.import_module('h').g()", "h": "def g(): return 2"}, "h.g changed"),
    ("globals", {"main": "def f(c): return globals()[c]\ndef g(): return 1"},
     {"main": "def f(c): return globals()[c]\ndef g(): return 2"}, "main.g changed"),
    ("__getattr__ of a module", {"main": "import h\ndef f(c): return h.made_up", "h": "def __getattr__(name): return 1"},
     {"main": "import h\ndef f(c): return h.made_up", "h": "def __getattr__(name): return 2"}, "h.__getattr__ changed"),
    ("instance", {"main": "from h import model\ndef f(c): return model.fit(c)", "h": "class M:\n    def fit(self, c): return 1\nmodel = M()"},
     {"main": "from h import model\ndef f(c): return model.fit(c)", "h": "class M:\n    def fit(self, c): return 2\nmodel = M()"}, "h.M changed"),
    ("instance that is set up", {"main": "import torch\nm = torch.nn.Linear(1, 2)\ndef f(c): return m(c)"},
     {"main": "import torch\nm = torch.nn.Linear(1, 2)\nm.half()\ndef f(c): return m(c)"}, "main.m changed"),
    ("value before or after", {"main": "a = 1\nb = a + 1\na = 2\ndef f(c): return a, b"},
     {"main": "a = 1\na = 2\nb = a + 1\ndef f(c): return a, b"}, "main.b changed"),
    ("value before or after an effect", {"main": "import random\nrandom.seed(1)\nb = random.random()\ndef f(c): return b"},
     {"main": "import random\nb = random.random()\nrandom.seed(1)\ndef f(c): return b"}, "main.b changed"),
    ("value before or after a function sets it", {"main": "a = 1\ndef put():\n    global a\n    a = 2\na += 1\nput()\ndef f(c): return a"},
     {"main": "a = 1\ndef put():\n    global a\n    a = 2\nput()\na += 1\ndef f(c): return a"}, "main.a changed"),
    ("registry", {"main": "from h import table\nimport k\ndef f(c): return table[c]", "h": "table = {}\ndef enter(name):\n    def inner(g):\n        table[name] = g\n        return g\n    return inner",
                  "k": "from h import enter\n@enter('a')\ndef g(): return 1"},
     {"main": "from h import table\nimport k\ndef f(c): return table[c]", "h": "table = {}\ndef enter(name):\n    def inner(g):\n        table[name] = g\n        return g\n    return inner",
      "k": "from h import enter\n@enter('a')\ndef g(): return 2"}, "k.g changed"),
    ("registry that is an object", {"main": "from h import R\nimport k\ndef f(c): return R.get(c)", "h": "from lib import Registry\nR = Registry()",
                                    "k": "import h\n@h.R.register\nclass G:\n    x = 1"},
     {"main": "from h import R\nimport k\ndef f(c): return R.get(c)", "h": "from lib import Registry\nR = Registry()",
      "k": "import h\n@h.R.register\nclass G:\n    x = 2"}, "k.G changed"),
    ("a cache is no registry", {"main": "kept = {}\ndef cached(g):\n    def inner(x):\n        kept[x] = g(x)\n        return kept[x]\n    return inner\n@cached\ndef f(c): return 1\n@cached\ndef g(c): return 1"},
     {"main": "kept = {}\ndef cached(g):\n    def inner(x):\n        kept[x] = g(x)\n        return kept[x]\n    return inner\n@cached\ndef f(c): return 1\n@cached\ndef g(c): return 2"}, ""),
    ("singledispatch", {"main": "from functools import singledispatch\n@singledispatch\ndef f(c): return 0\n@f.register\ndef _(c: int): return 1"},
     {"main": "from functools import singledispatch\n@singledispatch\ndef f(c): return 0\n@f.register\ndef _(c: str): return 1"}, "main._ changed"),
    ("subclasses", {"main": "class B: pass\nclass C(B): x = 1\ndef f(c): return B.__subclasses__()"},
     {"main": "class B: pass\nclass C(B): x = 2\ndef f(c): return B.__subclasses__()"}, "main.C changed"),
    ("subclass that enters itself", {"main": "class B:\n    all = []\n    def __init_subclass__(cls): B.all.append(cls)\nclass C(B): x = 1\ndef f(c): return B.all"},
     {"main": "class B:\n    all = []\n    def __init_subclass__(cls): B.all.append(cls)\nclass C(B): x = 2\ndef f(c): return B.all"}, "main.C changed"),
    ("subclass that nobody knows", {"main": "class B: pass\nclass C(B): x = 1\ndef f(c): return B()"},
     {"main": "class B: pass\nclass C(B): x = 2\ndef f(c): return B()"}, ""),
    ("metaclass", {"main": "class M(type):\n    def __call__(cls): return 1\nclass C(metaclass=M): pass\ndef f(c): return C()"},
     {"main": "class M(type):\n    def __call__(cls): return 2\nclass C(metaclass=M): pass\ndef f(c): return C()"}, "main.M changed"),
    ("dataclass field", {"main": "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    y: int = 1\ndef f(c): return D(c)"},
     {"main": "from dataclasses import dataclass\n@dataclass\nclass D:\n    y: int = 1\n    x: int = 2\ndef f(c): return D(c)"}, "main.D changed"),
    ("dataclass field put in", {"main": "import dataclasses\ndef f(c):\n    @dataclasses.dataclass\n    class D:\n        x: int\n    return D(c)"},
     {"main": "import dataclasses\ndef f(c):\n    @dataclasses.dataclass\n    class D:\n        x: int\n        z: int\n    return D(c)"}, "main.f changed"),
    ("named tuple", {"main": "import typing\nclass D(typing.NamedTuple):\n    x: int\ndef f(c): return D(c)"},
     {"main": "import typing\nclass D(typing.NamedTuple):\n    z: int\ndef f(c): return D(c)"}, "main.D changed"),
    ("model of a model", {"main": "from h import Base\nclass D(Base):\n    x: int = 1\ndef f(c): return D(c)", "h": "import pydantic\nclass Base(pydantic.BaseModel):\n    pass"},
     {"main": "from h import Base\nclass D(Base):\n    x: float = 1\ndef f(c): return D(c)", "h": "import pydantic\nclass Base(pydantic.BaseModel):\n    pass"}, "main.D changed"),
    ("annotation in a plain class", {"main": "from h import Base\nclass D(Base):\n    x = 1\ndef f(c): return D(c)", "h": "from torch import nn\nclass Base(nn.Module):\n    pass"},
     {"main": "from h import Base\nclass D(Base):\n    x: float = 1\ndef f(c): return D(c)", "h": "from torch import nn\nclass Base(nn.Module):\n    pass"}, ""),
    ("run without a guard", {"main": "from pyexp import experiment\n@experiment\ndef f(c): return 1\nr = f.run(configs=[1])\nprint(r.mean())\nimport plt\nplt.show(1)"},
     {"main": "from pyexp import experiment\n@experiment\ndef f(c): return 1\nr = f.run(configs=[2])\nprint(r.std())\nimport plt\nplt.show(2)"}, ""),
    ("run in a function", {"main": "from pyexp import experiment\n@experiment\ndef f(c): return 1\ndef go(): return f.run([1])\ngo()"},
     {"main": "from pyexp import experiment\n@experiment\ndef f(c): return 1\ndef go(): return f.run([2])\ngo()"}, ""),
    ("another experiment", {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return 1\n@pyexp.experiment\ndef g(c): return 1\ng.run([1])"},
     {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return 1\n@pyexp.experiment\ndef g(c): return 2\ng.run([2])"}, ""),
    ("text in the f-string", {"main": "def f(c): return f'a{c}b'"}, {"main": "def f(c): return f'a{c}c'"}, "main.f changed"),
    ("format in the f-string", {"main": "def f(c): return f'{c:>{c}}'"}, {"main": "def f(c): return f'{c:<{c}}'"}, "main.f changed"),
    ("quotes of an f-string", {"main": "def f(c): return f'a{c!r}' 'b' f'c'"}, {"main": 'def f(c): return f"a{c!r}bc"'}, ""),
    ("f-string without a value", {"main": "def f(c): return f'ab'"}, {"main": "def f(c): return 'ab'"}, ""),
    ("complex", {"main": "def f(c): return 1j"}, {"main": "def f(c): return 1"}, "main.f changed"),
    ("ellipsis", {"main": "def f(c): return c[...]"}, {"main": "def f(c): return c['...']"}, "main.f changed"),
    ("large int", {"main": f"def f(c): return 0x{'f' * 5000}"}, {"main": f"def f(c): return 0x{'e' * 5000}"}, "main.f changed"),
    ("double star", {"main": "def f(c): return {**c, 'a': 1}"}, {"main": "def f(c): return {c: c, 'a': 1}"}, "main.f changed"),
    ("text that looks like code", {"main": "x = '''\ndef f(c): return 2\n'''\ndef f(c): return 1"},
     {"main": "x = '''\ndef f(c): return 3\n'''\ndef f(c): return 1"}, ""),
    ("docstring that is used", {"main": '"""usage: a"""\nimport docopt\nX = docopt.docopt(__doc__)\ndef f(c): return X'},
     {"main": '"""usage: b"""\nimport docopt\nX = docopt.docopt(__doc__)\ndef f(c): return X'}, "main.__doc__ changed"),
    ("with at the top", {"main": "import torch\nwith torch.no_grad():\n    W = torch.ones(1)\ndef f(c): return W"},
     {"main": "import torch\nwith torch.no_grad():\n    W = torch.ones(2)\ndef f(c): return W"}, "main.W changed"),
    ("effect in a condition", {"main": "import os, torch\nif os.name == 'nt':\n    torch.set_num_threads(1)\ndef f(c): return 1"},
     {"main": "import os, torch\nif os.name != 'nt':\n    torch.set_num_threads(1)\ndef f(c): return 1"}, "main.<module> changed"),
    ("effect in a function of the guard", {"main": "import torch\ndef go(): torch.set_num_threads(1)\ndef f(c): return 1\nif __name__ == '__main__':\n    go()"},
     {"main": "import torch\ndef go(): torch.set_num_threads(2)\ndef f(c): return 1\nif '__main__' == __name__:\n    go()"}, ""),
    ("imports in a circle", {"main": "import h\nX = 1\ndef f(c): return h.g()", "h": "import main\nfrom main import f\ndef g(): return main.X, f"},
     {"main": "import h\nX = 2\ndef f(c): return h.g()", "h": "import main\nfrom main import f\ndef g(): return main.X, f"}, "main.X changed"),
    ("module moved", {"main": "from h import g\ndef f(c): return g()", "h": "def g(): return 1"},
     {"main": "from k import g\ndef f(c): return g()", "k": "def g(): return 1"}, "h.g is gone, k.g is new, main.f changed"),
    ("star import moved", {"main": "from h import *\ndef f(c): return g()", "h": "def g(): return 1\ndef k(): return 1"},
     {"main": "from h import *\ndef f(c): return g()", "h": "def g(): return 2\ndef k(): return 2"}, "h.g changed"),
    ("decorator of the project", {"main": "from h import d\n@d\ndef f(c): return 1", "h": "def d(g): return lambda c: 1"},
     {"main": "from h import d\n@d\ndef f(c): return 1", "h": "def d(g): return lambda c: 2"}, "h.d changed"),
    ("alias", {"main": "import h\ng = h.g\ndef f(c): return g()", "h": "def g(): return 1"},
     {"main": "import h\ng = h.g\ndef f(c): return g()", "h": "def g(): return 2"}, "h.g changed"),
    ("partial", {"main": "from functools import partial\nimport h\nf = partial(h.g, 1)", "h": "def g(x, c): return 1"},
     {"main": "from functools import partial\nimport h\nf = partial(h.g, 2)", "h": "def g(x, c): return 1"}, "main.f changed"),
    ("set by a function that is not reached", {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    X = n + 1\n    print(n)"},
     {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    X = n + 2\n    print(n)"}, "main.X changed"),
    ("what else such a function does", {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    X = n + 1\n    print(n)"},
     {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    X = n + 1\n    print(n + 1)"}, ""),
    ("other module set in the guard", {"main": "import h\ndef f(c): return h.X\nif __name__ == '__main__':\n    h.X = 2", "h": "X = 1"},
     {"main": "import h\ndef f(c): return h.X\nif __name__ == '__main__':\n    h.X = 3", "h": "X = 1"}, "main.<module> changed"),
    ("unreached global of another module set in the guard", {"main": "import h\ndef f(c): return 1\nif __name__ == '__main__':\n    h.X = 2\n    h.go(1)", "h": "X = 1\ndef go(n): 1"},
     {"main": "import h\ndef f(c): return 1\nif __name__ == '__main__':\n    h.X = 3\n    h.go(2)", "h": "X = 1\ndef go(n): 2"}, ""),
    ("function of another module called in the guard", {"main": "import h\ndef f(c): return h.go(c)\nif __name__ == '__main__':\n    h.go(1)", "h": "def go(n): 1"},
     {"main": "import h\ndef f(c): return h.go(c)\nif __name__ == '__main__':\n    h.go(2)", "h": "def go(n): 1"}, ""),
    ("attribute of a function", {"main": "def f(c): return f.x\nf.x = 1"}, {"main": "def f(c): return f.x\nf.x = 2"}, "main.f changed"),
    ("attribute of another function", {"main": "def f(c): return 1\ndef g(c): return 1\ng.x = 1"},
     {"main": "def f(c): return 1\ndef g(c): return 1\ng.x = 2"}, ""),
    ("attribute of a class", {"main": "class A: x = 1\ndef f(c): return A\nA.x = 1"}, {"main": "class A: x = 1\ndef f(c): return A\nA.x = 2"}, "main.A changed"),
    ("call of a class's method", {"main": "class A: x = 1\ndef f(c): return 1\nA.go(1)"},
     {"main": "class A: x = 1\ndef f(c): return 1\nA.go(2)"}, "main.<module> changed"),
    ("list of another that grows", {"main": "def f(c): return 1\nxs = [1]\nxs.append([y for y in range(3)])\nys = [xs]\nys.append(1)"},
     {"main": "def f(c): return 1\nxs = [1]\nxs.append([y for y in range(4)])\nys = [xs]\nys.append(1)"}, "main.xs changed"),
    ("list that grows", {"main": "def f(c): return 1\nA = -1\nxs = [(A, 2), 1 + 2]\nxs.append(1)\nxs += [2]\nxs.sort()"},
     {"main": "def f(c): return 1\nA = -1\nxs = [(A, 2), 1 + 2]\nxs.append(2)"}, ""),
    ("things set together", {"main": "import os\ndef f(c): return A\nA, os.environ['X'], *B[0] = 1, '2'"},
     {"main": "import os\ndef f(c): return A\nA, os.environ['X'], *B[0] = 1, '3'"}, "main.<module> changed, main.A changed"),
    ("effect by an operator", {"main": "import os\ndef f(c): return 1\nos.x and os.go(1)"}, {"main": "import os\ndef f(c): return 1\nos.x and os.go(2)"}, "main.<module> changed"),
    ("effect of a text", {"main": "def f(c): return 1\n', '.join(x)"}, {"main": "def f(c): return 1\n'; '.join(x)"}, "main.<module> changed"),
    ("effect in a comprehension", {"main": "import os\ndef f(c): return 1\n[os.go(x) for x in [1]]"},
     {"main": "import os\ndef f(c): return 1\n[os.go(x) for x in [2]]"}, "main.<module> changed"),
    ("effect in a print", {"main": "import os\ndef f(c): return 1\nprint(os.go(1))"}, {"main": "import os\ndef f(c): return 1\nprint(os.go(2))"}, "main.<module> changed"),
    ("print that is one's own", {"main": "def print(x): h(x)\ndef f(c): return 1\nprint(1)"}, {"main": "def print(x): h(x)\ndef f(c): return 1\nprint(2)"}, "main.<module> changed"),
    ("effect whose value is dropped", {"main": "import os\ndef f(c): return 1\n_ = os.go(1)"}, {"main": "import os\ndef f(c): return 1\n_ = os.go(2)"}, "main.<module> changed"),
    ("walrus at the top", {"main": "import os\nif (x := os.go(1)):\n    y = 1\ndef f(c): return x"}, {"main": "import os\nif (x := os.go(2)):\n    y = 1\ndef f(c): return x"}, "main.x changed"),
    ("function in a try", {"main": "try:\n    import a\n    def g(): return 1\nexcept ImportError:\n    def g(): return 2\ndef f(c): return g()"},
     {"main": "try:\n    import a\n    def g(): return 1\nexcept ImportError:\n    def g(): return 3\ndef f(c): return g()"}, "main.g changed"),
    ("class in a try", {"main": "try:\n    class G: x = 1\n    class H: x = 1\nfinally: pass\ndef f(c): return G()"},
     {"main": "try:\n    class G: x = 1\n    class H: x = 2\nfinally: pass\ndef f(c): return G()"}, "main.G changed"),
    ("type parameters", {"main": "def f(c): return 1"}, {"main": "def f(c) -> 'T': return 1"}, ""),
    ("import of two names of a package", {"main": "import n.a, n.b\ndef f(c): return n.b.g()", "n.a": "", "n.b": "def g(): return 1"},
     {"main": "import n.a, n.b\ndef f(c): return n.b.g()", "n.a": "", "n.b": "def g(): return 2"}, "n.b.g changed"),
    ("relative imports", {"main": "import h.a.b\ndef f(c): return h.a.b.g()", "h": "X = 1", "h.a.b": "from .. import X\nfrom ..a import c as d\ndef g(): return X, d.k()", "h.a.c": "def k(): return 1"},
     {"main": "import h.a.b\ndef f(c): return h.a.b.g()", "h": "X = 2", "h.a.b": "from .. import X\nfrom ..a import c as d\ndef g(): return X, d.k()", "h.a.c": "def k(): return 2"},
     "h.X changed, h.a.c.k changed"),
    ("registered by the library", {"main": "import gym\ndef f(c): return gym.make(c)\n@gym.register('a')\nclass G: x = 1"},
     {"main": "import gym\ndef f(c): return gym.make(c)\n@gym.register('a')\nclass G: x = 2"}, "main.G changed"),
    ("registered in a class", {"main": "class R:\n    all = {}\n    @classmethod\n    def enter(cls, g): cls.all[1] = g\n@R.enter\ndef g(): return 1\ndef f(c): return R.all"},
     {"main": "class R:\n    all = {}\n    @classmethod\n    def enter(cls, g): cls.all[1] = g\n@R.enter\ndef g(): return 2\ndef f(c): return R.all"}, "main.g changed"),
    ("registered by a helper", {"main": "from h import *\n@enter\ndef g(): return 1\ndef f(c): return table", "h": "table = {}\ndef put(g): table[1] = g\ndef enter(g):\n    put(g)\n    return g"},
     {"main": "from h import *\n@enter\ndef g(): return 2\ndef f(c): return table", "h": "table = {}\ndef put(g): table[1] = g\ndef enter(g):\n    put(g)\n    return g"}, "main.g changed"),
    ("metaclass that knows its classes", {"main": "class M(type):\n    all = []\nclass A(metaclass=M): x = 1\nclass B(A): x = 1\ndef f(c): return M.all, A"},
     {"main": "class M(type):\n    all = []\nclass A(metaclass=M): x = 1\nclass B(A): x = 2\ndef f(c): return M.all, A"}, "main.B changed"),
    ("star that lists what it makes", {"main": "from h import *\ndef f(c): return g()", "h": "__all__ = ['g']\n__all__ += ['k']\ndef g(): return 1"},
     {"main": "from h import *\ndef f(c): return g()", "h": "__all__ = ['g']\n__all__ += ['l']\ndef g(): return 1"}, "h.__all__ changed"),
    ("star of a package's module", {"main": "from h import *\ndef f(c): return sub.g()", "h": "from . import sub", "h.sub": "def g(): return 1"},
     {"main": "from h import *\ndef f(c): return sub.g()", "h": "from . import sub", "h.sub": "def g(): return 2"}, "h.sub.g changed"),
    ("private name and a star", {"main": "from h import *\ndef f(c): return _g", "h": "_g = 1"}, {"main": "from h import *\ndef f(c): return _g", "h": "_g = 2"}, ""),
    ("module listed for a star", {"main": "from h import *\ndef f(c): return sub.g()", "h": "__all__ = ['sub']", "h.sub": "def g(): return 1"},
     {"main": "from h import *\ndef f(c): return sub.g()", "h": "__all__ = ['sub']", "h.sub": "def g(): return 2"}, "h.sub.g changed"),
    ("generic base", {"main": "from typing import Generic, T\nclass A(Generic[T]):\n    x = 1\ndef f(c): return A"},
     {"main": "from typing import Generic, T\nclass A(Generic[T]):\n    x: int = 1\ndef f(c): return A"}, ""),
    ("base that is made", {"main": "from typing import make\nclass A(make()):\n    x = 1\ndef f(c): return A"},
     {"main": "from typing import make\nclass A(make()):\n    x: int = 1\ndef f(c): return A"}, "main.A changed"),
    ("base that is a value", {"main": "B = make()\nclass A(B):\n    x = 1\ndef f(c): return A"},
     {"main": "B = make()\nclass A(B):\n    x: int = 1\ndef f(c): return A"}, "main.A changed"),
    ("base inside a function", {"main": "def f(c):\n    class B: pass\n    class A(B):\n        x = 1\n    return A"},
     {"main": "def f(c):\n    class B: pass\n    class A(B):\n        x: int = 1\n    return A"}, "main.f changed"),
    ("mapping in a pattern", {"main": "def f(c):\n    match c:\n        case {'a': 1}: return 1"}, {"main": "def f(c):\n    match c:\n        case {'b': 1}: return 1"}, "main.f changed"),
    ("growing attribute", {"main": "def f(c):\n    c.x += 1"}, {"main": "def f(c):\n    c.x += 2"}, "main.f changed"),
    ("growing class attribute", {"main": "x = 1\nclass A:\n    x += 1\ndef f(c): return A"}, {"main": "x = 2\nclass A:\n    x += 1\ndef f(c): return A"}, "main.x changed"),
    ("global import", {"main": "import h\ndef f(c):\n    global g\n    from h import g\n    return g()", "h": "def g(): return 1"},
     {"main": "import h\ndef f(c):\n    global g\n    from h import g\n    return g()", "h": "def g(): return 2"}, "h.g changed"),
    ("star of the whole", {"main": "import h\ndef f(c): return vars(h)", "h": "from k import *", "k": "def g(): return 1"},
     {"main": "import h\ndef f(c): return vars(h)", "h": "from k import *", "k": "def g(): return 2"}, "k.g changed"),
    ("singledispatch without an annotation", {"main": "from functools import singledispatch\n@singledispatch\ndef f(c): return 0\n@f.register(int)\ndef _(c, *d: int): return 1"},
     {"main": "from functools import singledispatch\n@singledispatch\ndef f(c): return 0\n@f.register(str)\ndef _(c, *d: int): return 1"}, "main._ changed"),
    ("conditional class attribute", {"main": "x = 1\nclass A:\n    if c:\n        x = 2\n    y = x\ndef f(c): return A"},
     {"main": "x = 3\nclass A:\n    if c:\n        x = 2\n    y = x\ndef f(c): return A"}, "main.x changed"),
    ("two loops in one", {"main": "def f(c): return [x for y in c for x in G(y)]\ndef G(y): return y"}, {"main": "def f(c): return [x for y in c for x in G(y)]\ndef G(y): return -y"}, "main.G changed"),
    ("dict comprehension", {"main": "def f(c): return {x: 1 for x in c}"}, {"main": "def f(c): return {1: x for x in c}"}, "main.f changed"),
    ("experiment by a call", {"main": "from pyexp import experiment\ndef g(c): return 1\nf = experiment(g, jobs=2)\nf.run([1])"},
     {"main": "from pyexp import experiment\ndef g(c): return 1\nf = experiment(g, jobs=3)\nf.run([2])"}, ""),
    ("function of an experiment by a call", {"main": "import pyexp.tensor, pyexp\ndef g(c): return 1\nf = pyexp.experiment(g, jobs=2)"},
     {"main": "import pyexp.tensor, pyexp\ndef h(c): return 1\nf = pyexp.experiment(h, jobs=2)"}, "main.f changed, main.g is gone, main.h is new"),
    ("guard with another condition", {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__' and os.x:\n    os.go(1)"},
     {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__' and os.x:\n    os.go(2)"}, ""),
    ("the other branch of the guard", {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__':\n    os.go(1)\nelse:\n    os.go(2)"},
     {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__':\n    os.go(1)\nelse:\n    os.go(3)"}, "main.<module> changed"),
    ("not quite the guard", {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__' or os.x:\n    os.go(1)"},
     {"main": "import os\ndef f(c): return 1\nif __name__ == '__main__' or os.x:\n    os.go(2)"}, "main.<module> changed"),
    ("cached function of the project's cache", {"main": "from h import timed\n@timed\ndef f(c): return 1\n@timed\ndef g(c): return 1", "h": "import time\nLIMIT = 3\nTIMES = {}\ndef timed(fn):\n    assert LIMIT and note(fn)\n    return lambda c: TIMES.setdefault(c, fn(c))\ndef note(fn): return timed and 1"},
     {"main": "from h import timed\n@timed\ndef f(c): return 1\n@timed\ndef g(c): return 2", "h": "import time\nLIMIT = 3\nTIMES = {}\ndef timed(fn):\n    assert LIMIT and note(fn)\n    return lambda c: TIMES.setdefault(c, fn(c))\ndef note(fn): return timed and 1"}, ""),
    ("base of a class that is one's own", {"main": "class A(A): pass\nclass B(A):\n    x = 1\ndef f(c): return B().__class__.__subclasses__()"},
     {"main": "class A(A): pass\nclass B(A):\n    x = 2\ndef f(c): return B().__class__.__subclasses__()"}, "main.B changed"),
    ("long sum", {"main": f"def f(c): return {' + '.join('c' * 800)}"}, {"main": f"def f(c): return {' + '.join('c' * 799)}"}, "main.f changed"),
    ("order of operators", {"main": "def f(c): return c - (c - c) - c"}, {"main": "def f(c): return c - c - c - c"}, "main.f changed"),
    ("condition of an import", {"main": "import os\nif os.x:\n    from h import a as g\nelse:\n    from h import b as g\ndef f(c): return g", "h": "a = 1\nb = 2"},
     {"main": "import os\nif not os.x:\n    from h import a as g\nelse:\n    from h import b as g\ndef f(c): return g", "h": "a = 1\nb = 2"}, "main.g changed"),
    ("star that may fail", {"main": "try:\n    from h import *\nexcept ImportError:\n    pass\ndef f(c): return g", "h": "g = 1"},
     {"main": "try:\n    from h import *\nexcept ImportError:\n    pass\ndef f(c): return g", "h": "g = 2"}, "h.g changed"),
    ("decorator that is an item", {"main": "ds = [1]\n@ds[0]\ndef f(c): return 1"}, {"main": "ds = [2]\n@ds[0]\ndef f(c): return 1"}, "main.ds changed"),
    ("registry of a made-up constant", {"main": "from h import *\n@d\ndef g(): return 1\ndef f(c): return X, Y", "h": "X = -(1, 2)[0]\nY = (1, -2) * 3\ndef d(g): return X, Y, nothing"},
     {"main": "from h import *\n@d\ndef g(): return 2\ndef f(c): return X, Y", "h": "X = -(1, 2)[0]\nY = (1, -2) * 3\ndef d(g): return X, Y, nothing"}, "main.g changed"),
    ("no registry but constants", {"main": "from h import *\nimport lib\n@d\ndef g(): return 1\n@lib.e\n@gone\ndef k(): return 1\ndef f(c): return Y", "h": "import lib\nY = (1, -2) * 3\ndef d(g): return Y, lib, d"},
     {"main": "from h import *\nimport lib\n@d\ndef g(): return 2\n@lib.e\n@gone\ndef k(): return 2\ndef f(c): return Y", "h": "import lib\nY = (1, -2) * 3\ndef d(g): return Y, lib, d"}, ""),
    ("class that is derived from itself", {"main": "class A(A): pass\nclass B(A):\n    x = 1\ndef f(c): return A"},
     {"main": "class A(A): pass\nclass B(A):\n    x = 2\ndef f(c): return A"}, ""),
    ("class of a class that is told", {"main": "import lib\nclass A(lib.L):\n    def __init_subclass__(cls): pass\nclass B(A): pass\nclass C(B):\n    x = 1\ndef f(c): return B"},
     {"main": "import lib\nclass A(lib.L):\n    def __init_subclass__(cls): pass\nclass B(A): pass\nclass C(B):\n    x = 2\ndef f(c): return B"}, "main.C changed"),
    ("modules that hold each other", {"main": "import h\ndef f(c): return vars(h), vars(h)", "h": "import k\nx = 1", "k": "import h\ny = 1"},
     {"main": "import h\ndef f(c): return vars(h), vars(h)", "h": "import k\nx = 1", "k": "import h\ny = 2"}, "k.y changed"),
    ("empty texts in an f-string", {"main": "def f(c): return f'{c:}' f'' f'{c}'"}, {"main": "def f(c): return '' f'{c:}{c}'"}, ""),
    ("run of an experiment without a name", {"main": "import pyexp, os\ndef f(c): return 1\npyexp.experiment(f).run([1])\nos.go(1)"},
     {"main": "import pyexp, os\ndef f(c): return 1\npyexp.experiment(f).run([2])\nos.go(2)"}, ""),
    ("run of something else without a name", {"main": "import lib\ndef f(c): return 1\nlib.make(f).run([1])"},
     {"main": "import lib\ndef f(c): return 1\nlib.make(f).run([2])"}, "main.<module> changed"),
    ("run in a loop, and its exit status", {"main": "import pyexp, sys\n@pyexp.experiment\ndef f(c): return 1\nfor x in (1, 2):\n    f.run([x])\nsys.exit(f.run([1]))"},
     {"main": "import pyexp, sys\n@pyexp.experiment\ndef f(c): return 1\nfor x in (1, 3):\n    f.run([x])\nsys.exit(f.run([2]))"}, ""),
    ("configs by a call", {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return 1\nf.configs(lambda: [1])"},
     {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return 1\nf.configs(lambda: [2])"}, ""),
    ("experiment of another module", {"main": "import h\nh.g.run([1])\ndef f(c): return 1", "h": "import pyexp\n@pyexp.experiment\ndef g(c): return 1"},
     {"main": "import h\nh.g.run([2])\ndef f(c): return 1", "h": "import pyexp\n@pyexp.experiment\ndef g(c): return 2"}, ""),
    ("configs beside all globals", {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return globals()\n@f.configs\ndef g(): return 1\n@f.report\ndef r(x): return 1"},
     {"main": "import pyexp\n@pyexp.experiment\ndef f(c): return globals()\n@f.configs\ndef g(): return 2\n@f.report\ndef r(x): return 2"}, ""),
    ("growing attribute of another function", {"main": "def f(c): return 1\ndef g(c): return 1\ng.x += 1\ng.y: int = 1"},
     {"main": "def f(c): return 1\ndef g(c): return 1\ng.x += 2\ng.y: int = 2"}, ""),
    ("growing item", {"main": "X = [1]\ndef f(c): return X\nX[0] += 1"}, {"main": "X = [1]\ndef f(c): return X\nX[0] += 2"}, "main.X changed"),
    ("two names of one list", {"main": "xs = ys = []\nys.append(1)\ndef f(c): return xs"}, {"main": "xs = ys = []\nys.append(2)\ndef f(c): return xs"}, "main.ys changed"),
    ("annotated constant in a grid", {"main": "A = 1\nxs = [A]\nxs.append(1)\ndef f(c): return 1"}, {"main": "A: int = 1\nxs = [A]\nxs.append(2)\ndef f(c): return 1"}, ""),
    ("annotation of a global alone", {"main": "A = 1\ndef f(c): return A"}, {"main": "A: int\nA = 1\ndef f(c): return A"}, ""),
    ("annotation alone does not cover in a class", {"main": "x = 1\nclass A:\n    x: int\n    y = x\ndef f(c): return A"},
     {"main": "x = 2\nclass A:\n    x: int\n    y = x\ndef f(c): return A"}, "main.x changed"),
    ("overload in a try", {"main": "try:\n    from typing import overload\n    @overload\n    def g(): ...\n    def g(): return 1\nfinally: pass\ndef f(c): return g()"},
     {"main": "try:\n    from typing import overload\n    @overload\n    def g(): ...\n    def g(): return 2\nfinally: pass\ndef f(c): return g()"}, "main.g changed, main.overload changed"),
    ("effect for types only", {"main": "import typing, os\nif typing.TYPE_CHECKING:\n    os.go(1)\nelse:\n    os.go(2)\ndef f(c): return 1"},
     {"main": "import typing, os\nif typing.TYPE_CHECKING:\n    os.go(3)\nelse:\n    os.go(2)\ndef f(c): return 1"}, ""),
    ("long sum that is printed", {"main": f"print({' + '.join('c' * 1500)})\ndef f(c): return 1"}, {"main": f"print({' + '.join('c' * 1499)})\ndef f(c): return 1"}, ""),
    ("order of functions that set a global", {"main": "X = 1\ndef f(c): return X\ndef a():\n    global X\n    X = 2\ndef b():\n    global X\n    X = 3"},
     {"main": "X = 1\ndef b():\n    global X\n    X = 3\ndef f(c): return X\ndef a():\n    global X\n    X = 2"}, ""),
    ("item of a global that a function sets", {"main": "X = [1]\ndef f(c): return X\ndef go(n):\n    global X\n    X[0] = 1"},
     {"main": "X = [1]\ndef f(c): return X\ndef go(n):\n    global X\n    X[0] = 2"}, "main.X changed"),
    ("condition of a global that a function sets", {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    if n > 1:\n        X = 2"},
     {"main": "X = 1\ndef f(c): return X\ndef go(n):\n    global X\n    if n > 2:\n        X = 2"}, "main.X changed"),
    ("module in a package in a package without files", {"main": "import n.m.sub\ndef f(c): return n.m.sub.g(c)", "n.m.sub": "def g(c): return 1"},
     {"main": "import n.m.sub\ndef f(c): return n.m.sub.g(c)", "n.m.sub": "def g(c): return 2"}, "n.m.sub.g changed"),
    ("function beside another in a condition", {"main": "if c:\n    def g(): return 1\n    def k(): return 1\ndef f(c): return g()"},
     {"main": "if c:\n    def g(): return 1\n    def k(): return 2\ndef f(c): return g()"}, "main.g changed"),
    ("long chain behind a decorator", {"main": "from h import *\n@d\ndef g(): return 1\ndef f(c): return T", "h": "T = []\ndef d(g): return a0(g)\n" + "".join(f"def a{i}(g): return a{i + 1}(g)\n" for i in range(600)) + "def a600(g): T.append(g)"},
     {"main": "from h import *\n@d\ndef g(): return 2\ndef f(c): return T", "h": "T = []\ndef d(g): return a0(g)\n" + "".join(f"def a{i}(g): return a{i + 1}(g)\n" for i in range(600)) + "def a600(g): T.append(g)"}, "main.g changed"),
]
