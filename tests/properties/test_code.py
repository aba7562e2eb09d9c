"""The fingerprint of code: what changes it, and what does not."""

import ast
import builtins
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyexp.store.code import Code, Entry, Reach, change, fingerprint, short_identity
from tests.properties.edits import CHANGES, NEUTRAL, PACKAGES, PAIRS, PROJECT

ENTRIES = [Entry("main", "experiment"), Entry("main", "prepare")]


def code(project: dict[str, str]) -> Code:
    """The fingerprint of the project's experiment and initializer."""
    return fingerprint(ENTRIES, project, PACKAGES)


def edited(module: str, old: str, new: str) -> dict[str, str]:
    """The project after an edit, which there must be."""
    assert old in PROJECT[module]
    return PROJECT | {module: PROJECT[module].replace(old, new)}


@pytest.mark.parametrize(("module", "old", "new"), [row[1:] for row in NEUTRAL], ids=[row[0] for row in NEUTRAL])
def test_a_neutral_edit_changes_nothing(module: str, old: str, new: str) -> None:
    before, after = code(PROJECT), code(edited(module, old, new))
    assert before == after
    assert change(before, after) == ""


@pytest.mark.parametrize(
    ("module", "old", "new", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_an_edit_that_matters_is_named(module: str, old: str, new: str, words: str) -> None:
    before, after = code(PROJECT), code(edited(module, old, new))
    assert change(before, after) == words
    assert before.hash != after.hash


@pytest.mark.parametrize(("before", "after", "words"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS])
def test_a_pair_differs_by_what_it_says(before: dict[str, str], after: dict[str, str], words: str) -> None:
    old, new = (fingerprint([Entry("main", "f")], each, {"h"} & {*each}) for each in (before, after))
    assert change(old, new) == words


def test_the_parts_go_by_their_names() -> None:
    assert [*code(PROJECT).parts] == [
        *["helper.CACHE", "helper.FACTOR", "helper._one", "helper.scale", "helper.warm_up"],
        *["main.<module>", "main.LR", "main.OPTIONS", "main.STEPS", "main.experiment", "main.prepare"],
        *["nets.Net", "nets.base.Base", "nets.layers.dense", "nets.metrics.EPSILON", "nets.metrics.score"],
        "patches.<module>",
    ]


@pytest.mark.parametrize("name", ["main", "pkg.main", "__main__", "a.b.main"])
def test_a_script_goes_by_its_last_name(name: str) -> None:
    sources = {
        name: "import helper\nX = 1\ndef f(c): return X, helper.g",
        "helper": f"import {name}\ndef g(): return {name}.X",
    }
    parts = fingerprint([Entry(name, "f")], sources).parts
    assert {*parts} == {"helper.g", *(f"{name.rpartition('.')[2]}.{part}" for part in ("X", "f"))}


def test_a_module_of_the_same_last_name_keeps_the_names_apart() -> None:
    sources = {"pkg.main": "import main\ndef f(c): return main.f(c)", "main": "def f(c): return c"}
    assert [*fingerprint([Entry("pkg.main", "f")], sources).parts] == ["main.f", "pkg.main.f"]


def test_entries_of_the_same_last_name_are_kept_apart() -> None:
    sources = {"a.main": "def f(c): return 1", "b.main": "def f(): return 2"}
    assert [*fingerprint([Entry("a.main", "f"), Entry("b.main", "f")], sources).parts] == ["a.main.f", "b.main.f"]


def test_a_folder_is_no_part_of_the_fingerprint() -> None:
    sources = {"main": "def f(c): return 1"}
    assert fingerprint([Entry("main", "f")], sources) == fingerprint(
        [Entry("x.main", "f")], {"x.main": sources["main"]}
    )


BROKEN = [
    "def f(c) return 1",
    "def f(c):\n  return 1\n return 2",
    "def g(:\ndef f(c): return 1",
    "'",
    "x = \0",
    f"x = {'(' * 9000}1{')' * 9000}",  # too deep for the parser
]


@pytest.mark.parametrize("source", BROKEN)
def test_a_source_that_does_not_parse_is_unknown(source: str) -> None:
    found = fingerprint([Entry("main", "f")], {"main": "import h\ndef f(c): return h.f(c)", "h": source})
    assert found.hash == "unknown"
    assert found.parts["h.f"].startswith("unknown: ")
    assert found.parts["h.<module>"] == found.parts["h.f"]
    assert fingerprint([Entry("h", "f")], {"h": source}).parts["h.f"] == found.parts["h.f"]
    whole = fingerprint([Entry("main", "f")], {"main": "import h\ndef f(c): return vars(h)", "h": source})
    assert whole.hash == "unknown"


def test_what_is_nested_deeply_is_followed() -> None:
    deep = f"import h\ndef f(c): return {'not ' * 2500}h.g"
    assert [*fingerprint([Entry("main", "f")], {"main": deep, "h": "g = 1"}).parts] == ["h.g", "main.f"]


def test_a_decorator_that_does_not_parse_registers_nothing() -> None:
    sources = {"main": "import h\n@h.d\ndef g(): return 1\ndef f(c): return 1", "h": "("}
    assert fingerprint([Entry("main", "f")], sources).parts.keys() == {"h.<module>", "main.f"}


def test_an_entry_without_a_name_is_what_its_module_does() -> None:
    assert [*fingerprint([Entry("main")], {"main": "import os\nos.go(1)\nx = 1"}).parts] == ["main.<module>"]


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("print(main.exp.results('t').shape)", False),
        ("def f(): return main.exp.results('t')\nprint(f())", False),
        ("from main import exp as e\nr = e.plan()\nprint(max(r))", False),
        ("main.setup()\nprint(main.exp.results('t'))\nmain.exp.run()", True),
        ("main.setup()\nprint(main.exp.results('t'))\ngetattr(main.exp, 'run')()", True),
        ("main.setup()\nprint(main.exp.fn)", True),
        ("main.setup()\nprint(main.other.results('t'))", True),
    ],
)
def test_a_script_that_only_reads_results_is_no_part_of_the_code(body: str, counts: bool) -> None:
    known = "import pyexp\n@pyexp.experiment\ndef exp(config): return 1\ndef setup(): pass\nother = setup\n"
    entries = [Entry("main", "exp"), Entry("look")]
    parts = fingerprint(entries, {"main": known, "look": f"import main\n{body}\n"}).parts
    assert ("look.<module>" in parts) == counts
    assert "main.exp" in parts


def test_an_entry_without_a_source_is_unknown() -> None:
    found = fingerprint([Entry("lib", "f"), Entry("main", "g"), Entry("other")], {"main": ""})
    assert found.parts == {
        "lib.f": "unknown: its source is not known",
        "main.g": "unknown: main does not define it",
        "other.<module>": "unknown: its source is not known",
    }


@pytest.mark.parametrize(
    ("line", "name"), [(1, "x"), (2, "f"), (3, "f"), (5, "y"), (6, "<lambda>"), (8, "g"), (9, "g")]
)
def test_a_nameless_entry_is_found_by_its_line(line: int, name: str) -> None:
    source = "x = lambda c: 1\nf = [\n    lambda c: 1]\n\ny = 1\nrun(lambda c: 1)\n\n@x\ndef g(): pass"
    assert f"main.{name}" in fingerprint([Entry("main", "<lambda>", line)], {"main": source}).parts


def test_a_method_or_inner_function_is_found_by_what_it_is_in() -> None:
    source = "class A:\n    def m(self): pass\ndef make():\n    def f(c): return 1\n    return f"
    assert [*fingerprint([Entry("main", "A.m"), Entry("main", "make.<locals>.f")], {"main": source}).parts] == [
        "main.A",
        "main.make",
    ]


def test_what_a_partial_source_lacks_is_unknown() -> None:
    sources = {"__main__": "import helper\ndef f(c): return len(c) + LR + helper.g(c)", "helper": ""}
    found = fingerprint([Entry("__main__", "f")], sources, partial={"__main__", "helper"})
    assert {name: digest[:7] for name, digest in found.parts.items() if digest[:7] == "unknown"} == {
        "__main__.LR": "unknown",
        "helper.g": "unknown",
    }


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("getattr(h, c)", "h.again h.g h.x"),
        ("getattr(h, 'x')", "h.x"),
        ("getattr(h.x, c)", "h.x"),
        ("getattr(c)", ""),
        ("getattr(model, 'x')", ""),
        ("getattr(h, 'nothing')", ""),
        ("setattr(h, 'x', 3)", "h.x"),
        ("eval(c)", ""),
        ("model.eval()", ""),
        ("importlib.import_module(c)", ""),
        ("importlib.import_module('.h', 'p')", ""),
        ("importlib.import_module('h')", "h.again h.g h.x"),
        ("__import__('h')", "h.again h.g h.x"),
        ("__import__()", ""),
        ("undefined(c)", ""),
        ("h.undefined", ""),
        ("h.np.undefined", ""),
        ("h.__file__", ""),
        ("h.__dict__", "h.again h.g h.x"),
        ("h.sub.path", ""),
        ("h.sub.sub", ""),
        ("h.again", "h.again h.x"),
        ("globals()", "h.again h.g h.x"),
    ],
)
def test_what_is_named_by_a_text_is_followed_as_far_as_it_can_be(body: str, parts: str) -> None:
    sources = {
        "main": f"import h, importlib, model\ndef f(c): return {body}",
        "h": "import np\nx = 1\nagain = 1\ndef g(): return 1\nif x:\n    from h import again",
        "h.sub": "import path",
    }
    found = [*fingerprint([Entry("main", "f")], sources).parts]
    assert [each for each in found if each.startswith("h.")] == parts.split()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"a": "1"}, {"a": "1"}, ""),
        ({"a": "1"}, {"a": "2"}, "a changed"),
        ({}, {"b": "1", "a": "2"}, "what changed is not known"),
        ({"a": "unknown: x"}, {"a": "unknown: x"}, ""),
        ({"a": "1"}, {"a": "unknown: x"}, ""),
        ({"a": "unknown: x"}, {}, "what changed is not known"),
        ({"a": "unknown: x", "c": "1"}, {"b": "1", "c": "1"}, "a is unknown, b is new"),
        ({"a": "unknown: x", "b": "1"}, {"a": "1"}, "a is unknown, b is gone"),
    ],
)
def test_unknown_is_neither_equal_nor_changed(old: dict[str, str], new: dict[str, str], words: str) -> None:
    assert change(Code("1", old), Code("2", new)) == words


def test_a_code_of_which_only_the_seal_is_left_is_the_same_or_another() -> None:
    for code in (Code("0123456789abcdef", {"f": "1"}), Code("unknown", {"f": "1", "g": "unknown: exec"})):
        seal = Code(short_identity(code), {})
        assert change(seal, code) == change(code, seal) == ""
        assert change(seal, code._replace(hash="fedcba9876543210")) == "what changed is not known"


PRINT = """
import json, sys
sys.path[:0] = {path!r}
from pyexp.store.code import Entry, fingerprint
from tests.properties.edits import CHANGES, NEUTRAL, PACKAGES, PAIRS, PROJECT
entries = [Entry("main", "experiment"), Entry("main", "prepare")]
rows = [fingerprint(entries, PROJECT, PACKAGES)]
rows += [
    fingerprint(entries, PROJECT | {{module: PROJECT[module].replace(old, new)}}, PACKAGES)
    for _, module, old, new, *_ in [*NEUTRAL, *CHANGES]
]
rows += [fingerprint([Entry("main", "f")], each, {{"h"}} & {{*each}}) for row in PAIRS for each in row[1:3]]
print(json.dumps(rows))
"""


def printed(python: str, seed: str) -> str:
    """The fingerprints of all edits, as another process has them."""
    command = PRINT.format(path=[str(Path(__file__).parents[2])])
    done = subprocess.run(
        [python, "-I", "-c", command] if seed == "" else [python, "-c", command],
        check=False, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed or "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_processes_agree() -> None:
    assert len({printed(sys.executable, seed) for seed in ("1", "2", "3")}) == 1


#: The interpreters of other versions, where pyenv has some.
PYTHONS = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[123].*/bin/python"))


@pytest.mark.parametrize("python", PYTHONS, ids=[python.parts[-3] for python in PYTHONS])
def test_versions_of_python_agree(python: Path) -> None:
    assert printed(str(python), "1") == printed(sys.executable, "1")


# Drawn programs.

#: What a module may do, each with numbers to be drawn; then what a function of the script may ask of it.
MODULE = [
    "A = {n}",
    "A += {n}",
    "B = [{n}]",
    "B.append({n})",
    "B[0] = {n}",
    "D = A + {n}",
    "def g(x): return x + A + {n}",
    "def g(x, y={n}): return x * y",
    "def k(x): return g(x) - {n}",
    "class C:\n    z = {n}\n    def m(self, x): return x + self.z + A",
    "class S(C):\n    z = {n}",
    "C.z = {n}",
    "g.attr = {n}",
    "def setter(v={n}):\n    global A\n    A = v",
    "setter()",
    "setter({n})",
    "T = dict()\ndef reg(fn):\n    T['a'] = fn\n    return fn",
    "def named(name):\n    def inner(fn):\n        T[name] = fn\n        return fn\n    return inner",
    "@reg\ndef r(x): return x + {n}",
    "@named('a')\ndef r2(x): return x + {n}",
    "if A > {n}:\n    D = {n}\nelse:\n    D = {n}",
    "for i in range({n} % 3):\n    B.append(i)",
    "try:\n    E = 1 // ({n} % 2)\nexcept ZeroDivisionError:\n    E = {n}",
    "lam = lambda x: x - {n} - A",
    "obj = C()",
    "obj.z = {n}",
    "def deco(fn):\n    def inner(x): return fn(x) + {n}\n    return inner",
    "@deco\ndef q(x): return x - {n}",
    "q = deco(g)",
    "alias = B",
    "alias.append({n})",
    "import math\nmath.answer = {n}",
    "def touch(): math.answer = {n}\ntouch()",
    "del B[0]",
    "[B.append(y) for y in range({n} % 4)]",
    "def patch(): B.append({n})",
    "patch()",
]
ASKED = [
    "h.A", "h.g(x)", "h.k(x)", "sum(h.B)", "h.C().m(x)", "h.S().m(x)", "h.T['a'](x)", "h.D", "h.g.attr", "h.lam(x)",
    "h.E", "h.obj.m(x)", "h.q(x)", "getattr(h, 'k')(x)", "L", "inner(x)", "math.answer", "own(x)",
]  # fmt: skip
SCRIPT = [
    "L = {n}",
    "L = h.g({n})",
    "h.A = {n}",
    "h.B.append({n})",
    "h.setter({n})",
    "h.C.z = {n}",
    "h.g = lambda x: x + {n}",
    "from h import k as own",
    "from h import g as own",
    "def own(x): return x - {n}",
    "class Own(h.C):\n    z = {n}",
    "setattr(h, 'A', {n})",
    "h.patch()",
]


class Modules(dict[str, types.ModuleType]):
    """Modules that are loaded from their sources when they are imported first."""

    def __init__(self, sources: dict[str, str]) -> None:
        super().__init__()
        self.sources = sources

    def load(self, name: str, *_: object) -> object:
        if name not in self.sources:
            return types.SimpleNamespace(answer=0) if name == "math" and name not in self else self[name]
        if name not in self:
            self[name] = types.ModuleType(name)
            vars(self[name])["__builtins__"] = vars(builtins) | {"__import__": self.load}
            exec(self.sources[name], vars(self[name]))
        return self[name]


def outcome(sources: dict[str, str]) -> object:
    """What the script's function returns for 1, or None if it cannot."""
    modules = Modules(sources)
    modules["math"] = types.ModuleType("math")
    try:
        return modules.load("main").f(1)  # type: ignore[attr-defined]
    except Exception:
        return None


@st.composite
def statements(draw: st.DrawFn, templates: list[str], size: int) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(templates), max_size=size))
    return [
        each.replace("{n}", "{}").format(*draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)))
        if "{n}" in each
        else each
        for each in chosen
    ]


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """A program of two modules, and another one that differs from it in a number, or in a statement or two."""
    out = draw(st.sets(st.integers(0, len(MODULE) - 1), max_size=1))
    module = [each.replace("{n}", "3") for i, each in enumerate(MODULE) if i not in out]
    for each in draw(statements(MODULE, 4)):
        module.insert(draw(st.integers(len(module) * 2 // 3, len(module))), each)
    script = draw(statements(SCRIPT, 5))
    asked = draw(st.lists(st.sampled_from(ASKED), min_size=1, max_size=12))
    f = (
        "def f(x):\n    def inner(y): return y + L\n    found = []\n"
        f"    for each in ({', '.join(f'lambda: {each}' for each in asked)},):\n"
        "        try: found.append(each())\n        except Exception as error: found.append(type(error).__name__)\n"
        "    return found"
    )

    def program(module: list[str], script: list[str]) -> dict[str, str]:
        return {"h": "\n".join(["A = 2", *module]), "main": "\n".join(["import h, math", "L = 2", *script, f])}

    before = program(module, script)
    of_script = draw(st.booleans())
    changed = list(script if of_script else module) or ["A = 2"]
    at = draw(st.integers(0, len(changed) - 1))
    how = draw(st.sampled_from(["number", "number", "gone", "swap", "twice"]))
    if how == "number":
        numbers = [i for i, letter in enumerate(changed[at]) if letter.isdigit() and not changed[at][i - 1].isalpha()]
        if numbers:
            i = draw(st.sampled_from(numbers))
            changed[at] = changed[at][:i] + str(draw(st.integers(1, 9))) + changed[at][i + 1 :]
    elif how == "gone":
        del changed[at]
    elif how == "swap":
        other = draw(st.integers(0, len(changed) - 1))
        changed[at], changed[other] = changed[other], changed[at]
    else:
        changed.append(changed[at])
    return before, program(module, changed) if of_script else program(changed, script)


@settings(max_examples=int(os.environ.get("EXAMPLES", "300")), deadline=None, suppress_health_check=list(HealthCheck))
@given(edits())
def test_an_edit_that_changes_the_outcome_changes_the_fingerprint(pair: tuple[dict[str, str], dict[str, str]]) -> None:
    before, after = map(outcome, pair)
    if before is not None and after is not None and before != after:
        old, new = (fingerprint([Entry("main", "f")], each) for each in pair)
        assert change(old, new) != ""


@given(edits(), st.lists(st.sampled_from([Entry("h", "g"), Entry("main", "f"), Entry("h", "A"), Entry("h")])))
def test_what_is_reached_besides_does_not_depend_on_the_order(
    pair: tuple[dict[str, str], dict[str, str]], more: list[Entry]
) -> None:
    for program in pair:
        reach = Reach([Entry("main", "f")], program, (), ())
        together = reach.with_also(more).code()
        one_by_one = reach
        for entry in reversed(more):
            one_by_one = one_by_one.with_also([entry])
        last = Reach([], program, (), ())
        last._entries = {("main", "f")}  # the experiment is known, and begun last
        assert together == one_by_one.code() == last.with_also([*more, Entry("main", "f")]).code()
        assert reach.code() == fingerprint([Entry("main", "f")], program)
        assert together.parts.keys() >= reach.code().parts.keys()


@given(edits())
def test_how_a_program_is_written_is_no_part_of_the_fingerprint(pair: tuple[dict[str, str], dict[str, str]]) -> None:
    program, _ = pair
    spelled = {name: ast.unparse(ast.parse(text)) for name, text in program.items()}
    spaced = {name: text.replace("\n", "  # a comment\n\n# at the left\n") for name, text in program.items()}
    unused = {
        name: "def unused(x):\n    return h.g(x)\n" + text + "\nclass Unused: pass\n" for name, text in program.items()
    }
    for each in (spelled, spaced, unused):
        assert fingerprint([Entry("main", "f")], each) == fingerprint([Entry("main", "f")], program)


@given(st.data())
def test_a_change_is_named_where_it_can_be_reached_and_only_there(data: st.DataObject) -> None:
    """A drawn graph of functions in drawn modules, called in drawn ways; the oracle follows the same graph."""
    size = data.draw(st.integers(1, 8))
    homes = ["main", *(data.draw(st.sampled_from(["main", "a", "b", "p.c"])) for _ in range(size - 1))]
    calls = [data.draw(st.sets(st.integers(0, size - 1), max_size=3)) for _ in range(size)]
    ways = {(i, j): data.draw(st.integers(0, 4)) for i in range(size) for j in calls[i]}

    def call(i: int, j: int) -> tuple[str, str, str]:
        """What module `i` says at its top, what function `i` says first, and the call."""
        home = homes[j]
        if home == homes[i]:
            return "", "", f"f{j}(x)"
        package, _, last = home.rpartition(".")
        return [
            (f"import {home}", "", f"{home}.f{j}(x)"),
            (f"import {home} as m{j}", "", f"m{j}.f{j}(x)"),
            (f"from {home} import f{j}", "", f"f{j}(x)"),
            ("", f"from {home} import f{j} as g", "g(x)"),
            (
                f"from {package} import {last}" if package else f"from {home} import *",
                "",
                f"{last}.f{j}(x)" if package else f"f{j}(x)",
            ),
        ][ways[i, j]]

    def program(numbers: list[int]) -> dict[str, str]:
        tops: dict[str, list[str]] = {home: [] for home in homes}
        functions: dict[str, list[str]] = {home: [] for home in homes}
        for i in range(size):
            body = []
            for j in sorted(calls[i]):
                top, first, what = call(i, j)
                tops[homes[i]].append(top)
                body += [f"    {first or 'pass'}", f"    {what}"]
            functions[homes[i]].append("\n".join([f"def f{i}(x):", *body, f"    return {numbers[i]}"]))
        return {home: "\n".join([*tops[home], *functions[home]]) for home in tops} | {"p": ""}

    reached, left = set[int](), [0]
    while left:
        i = left.pop()
        if i not in reached:
            reached.add(i)
            left += calls[i]
    changed = data.draw(st.sets(st.integers(0, size - 1)))
    old, new = (
        fingerprint([Entry("main", "f0")], program([int(is_new and i in changed) for i in range(size)]), {"p"})
        for is_new in (False, True)
    )
    assert [*old.parts] == sorted(f"{homes[i]}.f{i}" for i in reached)
    assert change(old, new) == ", ".join(sorted(f"{homes[i]}.f{i} changed" for i in reached & changed))


def test_a_class_under_no_name_may_be_made_of_all_in_its_module() -> None:
    source = {"m": "def make(): return 1\nALL = [make()]"}
    parts = fingerprint([Entry("m", "Made")], source).parts
    assert {*parts} == {"m.ALL", "m.Made", "m.make"}
    assert parts["m.Made"].startswith("unknown: ")
    assert {*fingerprint([Entry("m", "Made")], source, partial={"m"}).parts} == {"m.Made"}  # in another cell


@pytest.mark.parametrize("name", ["ABCMeta", "abc.ABCMeta", "EnumMeta", "type"])
def test_only_a_metaclass_that_may_keep_a_list_makes_all_its_classes_count(name: str) -> None:
    def parts(metaclass: str) -> set[str]:
        text = f"class A(metaclass={metaclass}): pass\nclass B(A): pass\nclass C(A): pass"
        return {*fingerprint([Entry("m", "B")], {"m": f"import abc\nfrom lib import *\n{text}"}).parts}

    assert parts(name) == {"m.A", "m.B"}
    assert parts(f"Own{name.rpartition('.')[2]}") == parts(f"{name}()") == {"m.A", "m.B", "m.C"}
