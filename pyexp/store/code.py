"""The fingerprint of an experiment's code: its functions, and what of the project they reach, by the syntax tree.

Knows Python's scopes, imports and statements, and nothing of files: the sources come as an argument. What is not among
the sources (the standard library, installed packages) is known by its name only. `docs/reference/code.md` says what
counts and what does not.

A source is taken apart into its top-level statements, `_Module`; a statement is read when it is reached, `_Reading`;
`Reach` follows the names. Where a rule is coarse, it counts more than it needs to, never less.
"""

import ast
import builtins
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache, partial
from hashlib import sha256
from typing import Any, NamedTuple

#: Begins what is hashed, so that another scheme has other digests.
SCHEME = "code1"

#: Begins the digest of a part that cannot be told; the reason follows.
UNKNOWN = "unknown"
#: Begins the name of a part that is the value of a global, which only the process that runs the script knows.
VALUE = "the value of "

#: The part that holds what a module does when it is loaded, as a traceback calls it.
TOP = "<module>"


class Entry(NamedTuple):
    """Where the code begins: a module and the name of a function or class there, if it has one, and its first line.

    Without either, it is what the module does when it is loaded.
    """

    module: str
    name: str = ""
    line: int | None = None


class Code(NamedTuple):
    """A fingerprint: a hash of all, and a digest of each part by its qualified name.

    The hash is `unknown` if a part is.
    """

    hash: str
    parts: Mapping[str, str]


def fingerprint(
    entries: Iterable[Entry], sources: Mapping[str, str], packages: Container[str] = (), partial: Container[str] = ()
) -> Code:
    """The fingerprint of what these reach in the sources, which are by module name.
    `packages` are the modules that are packages; of a `partial` one, such as a notebook, the source has gaps: a name
    that it lacks is unknown. A module with an entry goes by its last name, so that `python pkg/main.py` and
    `python -m pkg.main` agree.

    >>> fingerprint([Entry("main", "f")], {"main": "import helper\\ndef f(x): return helper.g(x)",
    ...     "helper": "LR = 0.1\\ndef g(x): return x * LR\\ndef h(x): return x"}).parts.keys()
    dict_keys(['helper.LR', 'helper.g', 'main.f'])
    """
    reach = Reach([*entries], sources, packages, partial)
    code = reach.code()
    vars(reach).clear()  # it refers to itself: without that the syntax trees would stay until they are collected
    return code


def holding(code: Code, values: Mapping[str, bytes]) -> Code:
    """The fingerprint with values that its functions hold, by their names, each as a part of its own."""
    if not values:
        return code
    parts = dict(sorted({**code.parts, **{name: _hash([value.hex()]) for name, value in values.items()}}.items()))
    return Code(UNKNOWN if code.hash == UNKNOWN else _hash(map(ascii, parts.items())), parts)


def as_data(code: Code | None) -> dict[str, Any]:
    """The fingerprint as a record has it; empty where it is not known.

    >>> as_data(Code("1a2b", {"main.f": "3c"}))
    {'hash': '1a2b', 'parts': {'main.f': '3c'}}
    """
    return {} if code is None else {"hash": code.hash, "parts": dict(code.parts)}


def identity(code: Code) -> str:
    """What tells a fingerprint from others: its hash, or a digest of its parts where one of these is unknown.

    >>> identity(Code("1a2b", {})), identity(Code(UNKNOWN, {"f": "1"})) == identity(Code(UNKNOWN, {"f": "2"}))
    ('1a2b', False)
    """
    if code.hash != UNKNOWN:
        return code.hash
    return f"{UNKNOWN} {sha256(repr(sorted(code.parts.items())).encode()).hexdigest()[:16]}"


def short_identity(code: Code | None) -> str:
    """The last 16 characters of the identity, for the seal of a result; `""` without code."""
    return "" if code is None else identity(code)[-16:]


def change(old: Code, new: Code) -> str:
    """How two fingerprints differ, in words; `""` if they do not, or if that cannot be told.

    One that was read from a seal has no parts.

    >>> change(Code("1a", {"f": "1", "g": "2"}), Code("2b", {"f": "3", "h": "4"}))
    'f changed, g is gone, h is new'
    >>> change(Code("1a", {}), Code("2b", {"f": "2"}))
    'what changed is not known'
    >>> change(Code("1a", {"f": "1"}), Code("2b", {"f": "1", f"{VALUE}LR": "5"}))
    ''
    """
    if short_identity(old) == short_identity(new):
        return ""
    if not old.parts or not new.parts:
        return "what changed is not known"
    changes = {}
    for name in sorted({*old.parts, *new.parts}):
        before, after = old.parts.get(name), new.parts.get(name)
        if None in (before, after) and name.startswith(VALUE):
            continue  # one of them does not know it
        if any(each is not None and each.startswith(UNKNOWN) for each in (before, after)):
            changes[name] = "is unknown"
        elif before != after:
            changes[name] = "is new" if before is None else "is gone" if after is None else "changed"
    is_told = any(words != "is unknown" for words in changes.values())
    return ", ".join(f"{name} {words}" for name, words in changes.items()) if is_told else ""


def may_bind(source: str, name: str) -> bool:
    """Whether a module of this source has a global of this name, as far as the source tells.

    >>> may_bind("class A: pass", "A"), may_bind("from b import *", "A"), may_bind("A.b = 1", "A")
    (True, True, False)
    """
    return any(map(_Module(source).is_bound, (name, "*", "__getattr__")))


def defines(source: str, name: str) -> bool:
    """Whether a module of this source has a global of this name that it does not import.

    >>> defines("A = make()", "A"), defines("from b import A", "A")
    (True, False)
    """
    return name in _Module(source).units


def constants(source: str) -> set[str]:
    """The globals of a module of this source that it binds once, to a literal.

    >>> sorted(constants("A = 1; B = f(); C = 2; C += 1"))
    ['A']
    """
    found = {
        name: [getattr(each.node, "value", None) for each in units] for name, units in _Module(source).units.items()
    }
    return {name for name, values in found.items() if len(values) == 1 and isinstance(values[0], ast.Constant)}


# What the names of functions say.

#: Called for its effect also where its value is kept, as in `old = np.seterr(all="raise")`; a decorator that registers.
_ACTS = re.compile(r"(?:set|seed|manual_seed|configure|enable|disable|register|patch|use)(?![a-z])|set(?:err|up)|set_")

#: Builtin functions, and methods of loggers, that change nothing which a result depends on.
_IDLE_BUILTINS = frozenset(
    ["abs", "all", "any", "bool", "dict", "enumerate", "float", "frozenset", "int", "len", "list", "max", "min"]
) | {"print", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"}
_IDLE_METHODS = frozenset(["critical", "debug", "error", "exception", "info", "log", "warn", "warning"])

#: The decorators of an experiment for functions that do not belong to it, or begin one.
_ASIDE = (("configs",), ("report",), ("initializer",))

#: The methods of an experiment that run nothing: a script that only calls these is not part of the code.
_QUESTIONS = frozenset(["results", "plan"])

#: Bases that give a class no use for the annotations in its body, by their last name.
_PLAIN_BASES = frozenset(
    ["ABC", "Generic", "Module", "Protocol"]
    + [name for name, value in vars(builtins).items() if isinstance(value, type)]
)

_BUILTINS = frozenset([*dir(builtins), "__file__", "__path__", "__builtins__", "__class__", "__cached__"])

#: Tokens of a class that may know the classes derived from it. The metaclasses of Python itself keep no list of them.
_ASKS_SUBCLASSES = re.compile(
    r"__subclasses__|__init_subclass__|arg=metaclass(?! value N([\w.]*\.)?(ABCMeta|EnumMeta|EnumType|type) )"
)

# Syntax.

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CLOSED = frozenset([*_DEFINITIONS, *_IMPORTS, ast.Lambda, ast.Constant, ast.Name])
_CONDITIONAL = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)

_Chain = tuple[str, ...]


class _Import(NamedTuple):
    """An import of a module, or of a name in it; `level` counts the leading dots.

    The attribute is None for the module itself, and empty for the package that it is in.
    """

    level: int
    module: str
    attribute: str | None


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, _Import]]:
    """The names that an import binds, `*` for all, and what to."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, _Import(node.level, node.module or "", alias.name)
        else:
            yield alias.asname or alias.name.partition(".")[0], _Import(0, alias.name, None if alias.asname else "")


def _chain(node: ast.AST) -> tuple[_Chain, ast.AST]:
    """A name and the attributes that are taken of it, outermost last, and its node; for another node no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else "", *reversed(names)), node


def _root(node: ast.AST) -> _Chain:
    """The name that something is an item, attribute or result of, and the attributes that are taken of it first."""
    while True:
        chain, node = _chain(node)
        if not isinstance(node, (ast.Subscript, ast.Call)):
            return chain
        node = node.value if isinstance(node, ast.Subscript) else node.func


def _last(node: ast.AST) -> str:
    """The last of the attributes that are taken first, or the name itself."""
    return _root(node)[-1]


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """These nodes and all in them, but for what has a scope of its own."""
    left = [*nodes]
    while left:
        node = left.pop()
        yield node
        if node.__class__ in _COMPREHENSIONS:
            left += [each for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
        elif node.__class__ not in _CLOSED:
            left += ast.iter_child_nodes(node)


def _bound(nodes: Iterable[ast.AST]) -> tuple[dict[str, list[_Import]], set[str]]:
    """The names that these bind, with what they import by them, and those that they declare as global."""
    bound: dict[str, list[_Import]] = {}
    outer: dict[str, bool] = {}
    for node in _own(nodes):
        if isinstance(getattr(node, "ctx", None), ast.Load):
            pass
        elif isinstance(node, _IMPORTS):
            for name, what in _imports(node):
                bound.setdefault(name, []).append(what)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            outer |= dict.fromkeys(node.names, isinstance(node, ast.Global))
        else:
            # A variable, a definition, a handler, or a pattern.
            named: Any = getattr(node, "id", None) or getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(named, str):
                bound.setdefault(named, [])
    return {name: what for name, what in bound.items() if name not in outer}, {name for name in outer if outer[name]}


def _called(statement: ast.AST) -> Iterator[_Chain]:
    """What is called for its effect in a statement."""
    left = [statement]
    while left:
        match left.pop():
            case ast.Call(func=ast.Attribute(attr=name)) if name in _IDLE_METHODS:
                pass
            case ast.Call(func=ast.Name(id=name), args=args) if name in _IDLE_BUILTINS:
                yield (name,)
                left += args
            case ast.Call() as call:
                yield _root(call)
            case node:
                left += ast.iter_child_nodes(node)


def _is_guard(test: ast.expr) -> bool:
    """Whether a condition holds only in the script that was started."""
    match test:
        case ast.BoolOp(op=ast.And(), values=tests):
            return any(map(_is_guard, tests))
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return {_chain(side)[0][0] or _text(side) for side in (left, right)} == {"__name__", "__main__"}
    return False


# A module: its top-level statements, by the names that they bind or change.


class _Unit(NamedTuple):
    """A top-level statement, or one in a function that sets a global: on line 0, as it has no place in their order.

    There and under the script's guard, it `waits`: it counts for what it binds or changes, but not by itself.
    """

    line: int
    node: ast.stmt
    waits: bool = False


class _Effect(NamedTuple):
    """A statement that changes something other than by binding a name: what the chain's name stands for."""

    unit: _Unit
    chain: _Chain
    is_call: bool


class _Hook(NamedTuple):
    """A function or class that may be registered where it is defined: by a decorator, a base or a metaclass.

    `levels` is how deep the functions of a decorator run there: 2 where it is called first.
    """

    name: str
    by: _Chain
    levels: int = 0
    is_metaclass: bool = False


class _Module:
    """What a source defines. One that does not parse defines nothing, and says why; None is not of the project."""

    def __init__(self, text: str | None) -> None:
        self.is_outside = text is None
        self.why = ""
        self.statements: list[_Unit] = []
        self.units: dict[str, list[_Unit]] = {}
        self.imports: dict[str, list[tuple[int, _Import]]] = {}
        self.effects: list[_Effect] = []
        self.loads: list[_Import] = []
        self.hooks: list[_Hook] = []
        self.defined: set[str] = set()
        text = (text or "").removeprefix("\ufeff")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.why = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
            return
        if (said := ast.get_docstring(tree, clean=False)) is not None:
            self.units["__doc__"] = [_Unit(0, ast.Assign(targets=[], value=ast.Constant(said)))]
        self._sort(tree.body, waits=False)
        for node in ast.walk(tree) if "global" in text else ():
            if isinstance(node, _FUNCTIONS):
                self._find_setters(node.body)

    def _sort(self, body: Sequence[ast.stmt], *, waits: bool) -> None:
        for node in body:
            if isinstance(node, ast.If) and _is_guard(node.test):
                self._sort(node.body, waits=True)
                self._sort(node.orelse, waits=waits)
            elif isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING":
                self._sort(node.orelse, waits=waits)
            else:
                line = min((each.lineno for each in getattr(node, "decorator_list", ())), default=node.lineno)
                self._statement(_Unit(line, node, waits))

    def _statement(self, unit: _Unit) -> None:
        """Note what a statement binds and does. One that holds others counts as a whole for each name that it binds."""
        node = unit.node
        is_hint = isinstance(node, ast.AnnAssign) and node.value is None
        if is_hint or "overload" in map(_last, getattr(node, "decorator_list", ())):
            return
        for each in _own([node]):
            if isinstance(each, _DEFINITIONS):
                self.hooks += self._hooks(each)
                self.defined.add(each.name)
            elif isinstance(each, _IMPORTS):
                for name, what in _imports(each):
                    self.imports.setdefault(name, []).append((each.lineno, what))
                    self.loads += [what] * (not unit.waits)
            elif isinstance(each, ast.Expr):
                self.effects += [_Effect(unit, chain, is_call=True) for chain in _called(each)]
            elif isinstance(each, (ast.Attribute, ast.Subscript)) and not isinstance(each.ctx, ast.Load):
                self.effects.append(_Effect(unit, _root(each), is_call=False))
            elif isinstance(each, (ast.Assign, ast.AnnAssign)) and isinstance(each.value, ast.Call):
                is_dropped = isinstance(each, ast.Assign) and [*map(_last, each.targets)] == ["_"]
                if (is_dropped or _ACTS.match(_last(each.value))) and _last(each.value) not in _BUILTINS:
                    acting = unit._replace(node=ast.Expr(each.value))
                    self.effects.append(_Effect(acting, _root(each.value), is_call=True))
        if not isinstance(node, _IMPORTS):
            self.statements.append(unit)
            for name in _bound([node])[0]:
                self.units.setdefault(name, []).append(unit)

    def _hooks(self, node: Any) -> Iterator[_Hook]:
        for each in node.decorator_list:
            yield _Hook(node.name, _root(each), levels=1 + isinstance(each, ast.Call))
        for each in getattr(node, "bases", ()):
            yield _Hook(node.name, _root(each))
        for each in getattr(node, "keywords", ()):
            yield _Hook(node.name, _root(each.value), is_metaclass=True)

    def _find_setters(self, body: Sequence[ast.stmt]) -> None:
        """Note where a function sets a global: it may be called though nothing here reaches it."""
        _, declared = _bound(body)
        for node in _own(body) if declared else ():
            if isinstance(node, ast.stmt) and not isinstance(node, _DEFINITIONS):
                stored = (each for each in _own([node]) if isinstance(getattr(each, "ctx", None), (ast.Store, ast.Del)))
                changed = {_root(each)[0] for each in stored}
                for name in sorted(declared & {*_bound([node])[0], *changed}):
                    self.effects.append(_Effect(_Unit(0, node, waits=True), (name,), is_call=False))

    def is_bound(self, name: str) -> bool:
        """Whether a statement of this module binds the name."""
        return name in self.units or name in self.imports

    def is_constant(self, name: str) -> bool:
        """Whether the name stands for a value that cannot change."""
        fixed = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.Load, ast.unaryop, ast.operator)
        values = [getattr(unit.node, "value", None) for unit in self.units[name]]
        return all(each.chain[0] != name for each in self.effects) and all(
            value is not None and all(isinstance(each, fixed) for each in ast.walk(value)) for value in values
        )

    def is_fresh(self, name: str) -> bool:
        """Whether the name stands for a list, dict or the like that is made here and holds nothing changeable."""
        idle = _IDLE_BUILTINS - {*self.imports}
        for node in (unit.node for unit in self.units[name]):
            value = getattr(node, "value", None)
            if value is None or len(getattr(node, "targets", ())) > 1:  # two names for one list
                return False
            inside = [*ast.walk(value)]
            made = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
            used = {each.id for each in inside if isinstance(each, ast.Name)} - made
            is_fixed = all(self.is_constant(each) if each in self.units else each in idle for each in used)
            if not is_fixed or any(isinstance(each, _MAY_SHARE) for each in inside):
                return False
        return True

    def exports(self, name: str) -> bool | None:
        """Whether `import *` gives the name; None if `__all__` is made in a way that does not say so plainly."""
        match [unit.node for unit in self.units.get("__all__", ())]:
            case []:
                return not name.startswith("_")
            case [ast.Assign(value=ast.List(elts=names) | ast.Tuple(elts=names))]:
                return None if any(each.chain[0] == "__all__" for each in self.effects) else name in map(_text, names)
        return None


_MAY_SHARE = (ast.Attribute, ast.Subscript, ast.Lambda, ast.NamedExpr, ast.Await)


# Reading a statement.


class _Target(NamedTuple):
    """What a name stands for: a part of a module, a module as a whole (no name), or something outside the project.

    `rest` are the attributes that are taken of it.
    """

    module: str
    name: str | None
    rest: _Chain = ()
    is_outside: bool = False


class _Scope(NamedTuple):
    """The names bound in a function, class or comprehension, and those declared global there."""

    node: ast.AST
    bound: dict[str, list[_Import]]
    declared: set[str]
    has_hints: bool = False


#: A name that is used, what it stands for, and how many functions deep: 0 is evaluated when the statement is.
_Use = tuple[str, list[_Target], int]

#: What is read next: a token, a node, or a step to take.
_Next = str | ast.AST | Callable[[], object]


class _Reading:
    """A statement's tokens, without what does not count, with what each name stands for; and all that it needs.

    What a node is read as is said by the method of its name, or by `_plain`. Nothing recurses: code may be deep.
    """

    def __init__(self, walk: "Reach", module: str, unit: _Unit) -> None:
        self.tokens: list[str | _Target] = []
        self.uses: list[_Use] = []
        self.imports: list[_Import] = []
        self._walk = walk
        self._module = module
        self._line = unit.line
        self._scopes: list[_Scope] = []
        left: list[_Next] = [unit.node]
        while left:
            each = left.pop()
            if isinstance(each, str):
                self.tokens.append(each)
            elif isinstance(each, ast.AST):
                rule = getattr(_Reading, f"_{each.__class__.__name__.lower()}", _Reading._plain)
                left += reversed(rule(self, each))
            else:
                each()

    def _plain(self, node: ast.AST) -> list[_Next]:
        found: list[_Next] = [f"({node.__class__.__name__}"]
        for field in node._fields:
            value = None if field in _NOT_COUNTED else getattr(node, field, None)
            if value.__class__ is list:
                if value:  # of nodes, or names, or None where a keyword has no default, or before ** in a dict
                    found += [f"{field}[", *(each if isinstance(each, ast.AST) else f"={each}" for each in value), "]"]
            elif isinstance(value, ast.AST):
                found += [field, value]
            elif value is not None:
                found.append(f"{field}={value}")
        found.append(")")
        return found

    def _constant(self, node: ast.Constant) -> list[_Next]:
        """A constant by type and value, in letters that no version of Unicode changes."""
        value = node.value
        return [f"int {value:x}" if type(value) is int else f"{type(value).__name__} {value!a}"]  # repr is limited

    def _joinedstr(self, node: ast.JoinedStr) -> list[_Next]:
        """An f-string: whether there are empty texts in it depends on the version of Python."""
        values = [each for each in node.values if _text(each) != ""]
        if all(isinstance(each, ast.Constant) for each in values):
            return [ast.Constant("".join(map(str, map(_text, values))))]
        return ["(JoinedStr", *values, ")"]

    def _expr(self, node: ast.Expr) -> list[_Next]:
        """Nothing for a docstring, or a comment that is written as one."""
        return [] if isinstance(node.value, ast.Constant) else self._plain(node)

    def _pass(self, _: ast.Pass) -> list[_Next]:
        return []  # a body with a docstring needs none

    # Names.

    def _home(self, name: str) -> _Scope | None:
        """The scope that binds a name; None if it is global. What is nested in a class does not see its names."""
        for scope in reversed(self._scopes):
            if name in scope.declared:
                return None
            if name in scope.bound and (scope is self._scopes[-1] or not isinstance(scope.node, ast.ClassDef)):
                return scope
        return None

    def _use(self, name: str, *attributes: str) -> list[_Next]:
        """Note a name, and the attributes that are taken of it."""
        self.tokens.append(f"N{'.'.join((name, *attributes))}")
        home = self._home(name)
        if home is None:
            found = self._walk.stands_for(self._module, (name, *attributes))
        else:
            found = [each for what in home.bound[name] for each in self._walk.imported(self._module, what, attributes)]
        depth = sum(not isinstance(scope.node, (ast.ClassDef, *_COMPREHENSIONS)) for scope in self._scopes)
        if home is None or found:
            self.uses.append((name, found, depth))
        self.tokens += found
        if home is not None:
            return []
        here = self._walk.moment(self._module, name, self._line)
        return [*self._walk.patched(self._module, name), *([] if depth else [here])]

    def _name(self, node: ast.Name) -> list[_Next]:
        if not isinstance(node.ctx, ast.Load) and not any(node.id in scope.declared for scope in self._scopes):
            return [f"N{node.id}"]
        return self._use(node.id)

    def _attribute(self, node: ast.Attribute) -> list[_Next]:
        (name, *attributes), base = _chain(node)
        return self._use(name, *attributes) if name else [f"(.{'.'.join(attributes)}", base, ")"]

    def _augassign(self, node: ast.AugAssign) -> list[_Next]:
        """A change of a variable, which uses it."""
        if isinstance(node.target, ast.Name):
            self._use(node.target.id)
        return self._plain(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> list[_Next]:
        for name, what in _imports(node):
            self.imports.append(what)
            if self._scopes and self._home(name) is None and not isinstance(self._scopes[-1].node, ast.ClassDef):
                self.uses.append((name, self._walk.imported(self._module, what), 1))
        return self._plain(node)

    def _call(self, node: ast.Call) -> list[_Next]:
        """A call, where a text may name an attribute or a module."""
        chain, _ = _chain(node.func)
        match [chain[-1], *map(_text, node.args)], node.args:
            case ["getattr" | "setattr" | "hasattr" | "delattr", _, str(attribute), *_], [owner, _, *others]:
                named = ast.Attribute(owner, attribute, ast.Load())
                return self._plain(ast.Call(node.func, [named, *others], node.keywords))
            case ["import_module" | "__import__", str(module), *_], _ if not module.startswith("."):
                self.imports.append(_Import(0, module, None))
                self.uses.append((module, self._walk.imported(self._module, self.imports[-1]), 1))
        is_maker = bool(chain[0]) and self._walk.is_maker(self._module, node.func)
        return self._plain(ast.Call(node.func, node.args, [] if is_maker else node.keywords))

    # Scopes.

    def _scope(self, scope: _Scope, inside: Iterable[_Next]) -> list[_Next]:
        """What is read in a scope."""
        return [partial(self._scopes.append, scope), *inside, self._scopes.pop, ")"]

    def _functiondef(self, node: Any) -> list[_Next]:
        """A function or lambda; with its annotations where `singledispatch` dispatches on them."""
        decorators = getattr(node, "decorator_list", [])
        body = node.body if isinstance(node.body, list) else [node.body]
        args = [each for each in ast.walk(node.args) if isinstance(each, ast.arg)]
        bound, declared = _bound(body)
        bound |= {each.arg: [] for each in args} | {each.name: [] for each in getattr(node, "type_params", ())}
        found: list[_Next] = [f"({node.__class__.__name__} {getattr(node, 'name', '')}"]
        found += [*self._decorators(decorators), node.args]
        if "register" in map(_last, decorators):
            found += [each.annotation for each in args if each.annotation is not None]
        return found + self._scope(_Scope(node, bound, declared), body)

    def _decorators(self, decorators: Iterable[ast.expr]) -> Iterator[_Next]:
        for each in decorators:
            if not self._walk.is_maker(self._module, each):
                yield from ("@", each)

    def _classdef(self, node: ast.ClassDef) -> list[_Next]:
        is_local = any(self._home(_root(each)[0]) is not None for each in node.bases)
        scope = _Scope(node, {}, set(), is_local or not self._walk.is_plain(self._module, node))
        found: list[_Next] = [f"(ClassDef {node.name}", *self._decorators(node.decorator_list)]
        found += ["bases", *node.bases, "keywords", *node.keywords]
        body: list[_Next] = []
        for each in node.body:
            body.append(each)
            if not isinstance(each, _CONDITIONAL) and getattr(each, "value", each) is not None:
                # What these bind may be bound outside instead.
                body.append(partial(self._bind, scope, each))
        return found + self._scope(scope, body)

    def _bind(self, scope: _Scope, node: ast.AST) -> None:
        """Note what is bound in a class from here on."""
        for name, what in _bound([node])[0].items():
            scope.bound.setdefault(name, []).extend(what)

    def _annassign(self, node: ast.AnnAssign) -> list[_Next]:
        """An annotated assignment: one without annotation, but in a class that may read it."""
        is_read = self._scopes and self._scopes[-1].has_hints
        value = [] if node.value is None else [ast.Assign(targets=[node.target], value=node.value)]
        return [*(["hint", node.target, node.annotation] if is_read else []), *value]

    def _listcomp(self, node: Any) -> list[_Next]:
        first, *others = node.generators
        targets = [name for each in node.generators for name in _bound([each.target])[0]]
        inside: list[_Next] = [f"for {first.is_async}", first.target, *first.ifs, *others]
        inside += [getattr(node, field) for field in ("key", "value", "elt") if hasattr(node, field)]
        scope = _Scope(node, {name: [] for name in targets}, set())
        return [f"({node.__class__.__name__}", first.iter, *self._scope(scope, inside)]  # evaluated outside

    _importfrom = _import
    _asyncfunctiondef = _lambda = _functiondef
    _setcomp = _dictcomp = _generatorexp = _listcomp


_NOT_COUNTED = frozenset(["annotation", "ctx", "kind", "returns", "str", "type_comment", "type_params"])

# From the entries to all that they reach.


class Reach:
    """What the entries reach in the sources; for the arguments see `fingerprint`."""

    def __init__(
        self, entries: Sequence[Entry], sources: Mapping[str, str], packages: Container[str], partial: Container[str]
    ) -> None:
        self._packages = packages
        self._partial = partial
        self._entries = {(entry.module, entry.name) for entry in entries}
        self._module = cache(lambda name: _Module(sources.get(name)))
        self._read = cache(lambda module, unit: _Reading(self, module, unit))
        self.stands_for = cache(self._stands_for)
        self._reached: dict[tuple[str, str], list[_Unit]] = {}
        self._unknown: dict[tuple[str, str], str] = {}
        self._loaded: set[str] = set()
        self._whole: set[str] = set()
        self._left: list[tuple[str, _Unit]] = []
        self._asks_subclasses = False
        self._follow_all(entries)

    def with_also(self, entries: Iterable[Entry]) -> "Reach":
        """What these reach too, such as the functions and classes in a config. This one stays as it is."""
        more = copy(self)  # what a name stands for is the same: it depends on the sources alone
        more._reached = {part: [*units] for part, units in self._reached.items()}
        more._unknown, more._loaded, more._whole = {**self._unknown}, {*self._loaded}, {*self._whole}
        more._left = []
        more._follow_all(entries)
        return more

    def code(self) -> Code:
        """The fingerprint of what is reached. A module with an entry goes by its last name, if no other goes by it."""
        homes = {module for module, _ in (*self._reached, *self._unknown)}
        short = {module: module.rpartition(".")[2] for module, _ in self._entries}
        names = [*short.values()]
        shown = {name: last for name, last in short.items() if last not in homes - {name} and names.count(last) == 1}
        digests = {key: self._digest(*key, shown) for key in self._reached}
        digests |= {key: f"{UNKNOWN}: {why}" for key, why in self._unknown.items()}
        parts = dict(sorted((f"{shown.get(module, module)}.{name}", each) for (module, name), each in digests.items()))
        return Code(UNKNOWN if self._unknown else _hash(map(ascii, parts.items())), parts)

    def _digest(self, module: str, name: str, shown: Mapping[str, str]) -> str:
        said = []
        units = self._reached[module, name]
        for unit in units:
            tokens = [
                each if isinstance(each, str) else f": {shown.get(each.module, each.module)}.{each.name or '*'}"
                for each in self._read(module, unit).tokens
            ]
            # What the module calls when it is loaded may change a global between two of its statements.
            is_ordered = any(each.line == 0 for each in units) or "(Call" in tokens
            if is_ordered and name != TOP and not isinstance(unit.node, _DEFINITIONS):
                tokens.append(f"after {sum(each.line < unit.line for each in self._reached.get((module, TOP), ()))}")
            said.append((unit.line, "\n".join(tokens)))
        return _hash(text for _, text in sorted(said))

    # Finding.

    def _absolute(self, module: str, what: _Import) -> str:
        """The full name of the module that an import names."""
        if not what.level:
            return what.module
        package = module.split(".")[: module.count(".") + 1 - what.level + (module in self._packages)]
        return ".".join([*package, what.module] if what.module else package)

    def imported(self, module: str, what: _Import, chain: _Chain = (), seen: "_Seen" = frozenset()) -> list[_Target]:
        """What a chain of attributes of an imported name stands for."""
        absolute = self._absolute(module, what)
        if what.attribute:
            return self._of_module(absolute, (what.attribute, *chain), seen)
        return self._of_module(absolute if what.attribute is None else absolute.partition(".")[0], chain, seen)

    def _of_module(self, module: str, chain: _Chain, seen: "_Seen") -> list[_Target]:
        """What a chain of attributes of a module stands for."""
        source = self._module(module)
        if not chain:
            return [_Target(module, None, (), source.is_outside)]
        first, rest = chain[0], chain[1:]
        found = self._of_name(module, chain, seen)
        if source.why or any(not target.is_outside for target in found):
            return found or [_Target(module, first, rest)]
        is_module = not self._module(f"{module}.{first}").is_outside
        beneath = self._of_module(f"{module}.{first}", rest, seen) if rest or is_module else []
        if is_module or any(not target.is_outside for target in beneath):
            return [*found, *beneath]
        if source.is_outside:
            return [_Target(module, ".".join(chain), (), is_outside=True)]
        if first == "__dict__":
            return [_Target(module, None)]
        if not found and source.is_bound("__getattr__"):
            return self._of_name(module, ("__getattr__",), seen)
        return found or [_Target(module, first, _MISSING, is_outside=module not in self._partial)]

    def _of_name(self, module: str, chain: _Chain, seen: "_Seen") -> list[_Target]:
        """What a chain of attributes of a global name stands for: all that it is bound to, in order."""
        name, rest = chain[0], chain[1:]
        if (module, name) in seen:
            return []
        seen |= {(module, name)}
        source = self._module(module)
        bindings: list[tuple[int, str, _Import | None]] = [(unit.line, "", None) for unit in source.units.get(name, ())]
        bindings += [(line, each, what) for each in (name, "*") for line, what in source.imports.get(each, ())]
        found: list[_Target] = []
        for _, each, what in sorted(bindings, key=lambda each: each[0]):
            if what is None:
                own = _Target(module, name, rest)
                found += [own] * (own not in found[-1:])
            elif each == "*":
                star = self._module(self._absolute(module, what))
                given = self.imported(module, what._replace(attribute=name), rest, seen)
                if star.is_outside or star.exports(name) is not False:
                    found += [each for each in given if each.rest != _MISSING]
                if not star.is_outside and star.exports(name) is None:
                    found.append(_Target(self._absolute(module, what), "__all__"))
            else:
                found += self.imported(module, what, rest, seen)
        return found

    def _stands_for(self, module: str, chain: _Chain) -> list[_Target]:
        """What a chain of attributes of a global name stands for."""
        found = self._of_name(module, chain, frozenset())
        return found or [_Target(module, None)] * (chain[0] == "globals")

    def moment(self, module: str, name: str, line: int) -> str:
        """Which value of a global of several a statement on this line meets."""
        source = self._module(module)
        values = source.units.get(name, []) if name in source.defined else self._units(module, name)
        return f"@{sum(each.line < line for each in values)}" if len(values) > 1 else ""

    def patched(self, module: str, name: str) -> Iterator[str]:
        """How often a module has changed a global of another one, before each time that it imports it by this name."""
        source = self._module(module)
        for line, what in source.imports.get(name, ()):
            own = {target[:2] for target in self.imported(module, what)} if what.attribute else set()
            changes = [each for each in source.effects if own and not each.is_call and each.unit.line < line]
            if met := sum(any(at[:2] in own for at in self.stands_for(module, each.chain)) for each in changes):
                yield f"patched {met}"

    def is_maker(self, module: str, node: ast.AST) -> bool:
        """Whether this is pyexp's decorator, or a call of it."""
        return self._is_pyexps(module, _chain(node.func if isinstance(node, ast.Call) else node)[0], "experiment")

    def _is_pyexps(self, module: str, chain: _Chain, name: str) -> bool:
        found = self.stands_for(module, chain)
        return any(each.module.partition(".")[0] == "pyexp" and each.name == name for each in found)

    def _is_experiment(self, target: _Target) -> bool:
        if target[:2] in self._entries:
            return True
        nodes = [unit.node for unit in self._values(target)]
        made = [each.value for each in nodes if isinstance(each, ast.Assign)]
        made += [each for node in nodes if isinstance(node, _DEFINITIONS) for each in node.decorator_list]
        return any(self.is_maker(target.module, each) for each in made)

    def _values(self, target: _Target) -> list[_Unit]:
        """The statements that bind what a name stands for."""
        return [] if target.is_outside else self._module(target.module).units.get(target.name or "", [])

    def _units(self, module: str, name: str) -> list[_Unit]:
        """The statements that bind or change a global."""
        source, own = self._module(module), _Target(module, name)
        is_called = name in source.defined or self._is_experiment(own)
        changes = [each.unit for each in source.effects if each.chain[0] == name and not (each.is_call and is_called)]
        return [*source.units[name], *changes] if name in source.units else []

    def is_plain(self, module: str, node: ast.stmt, seen: frozenset[ast.AST] = frozenset()) -> bool:
        """Whether the annotations in a class's body mean nothing to Python."""
        if not isinstance(node, ast.ClassDef) or node.decorator_list or node.keywords:
            return False
        for base in node.bases if node not in seen else ():
            chain = _root(base)
            for target in self.stands_for(module, chain) or [_Target("builtins", ".".join(chain), (), True)]:
                units = self._values(target)
                is_plain = all(self.is_plain(target.module, unit.node, seen | {node}) for unit in units)
                if not is_plain or not (units or (target.name or "").rpartition(".")[2] in _PLAIN_BASES):
                    return False
        return True

    # Following.

    def _only_reads(self, module: str) -> bool:
        """Whether a script asks an experiment for its results or its plan, and has no word of running one."""
        nodes = [node for unit in self._module(module).statements for node in ast.walk(unit.node)]
        words = {getattr(node, "attr", None) or getattr(node, "id", None) or _text(node) for node in nodes}
        chains = [_chain(node)[0] for node in nodes if isinstance(node, ast.Attribute)]
        asked = [chain[:-1] for chain in chains if chain[-1] in _QUESTIONS]
        return "run" not in words and any(
            self._is_experiment(at) for each in asked for at in self.stands_for(module, each)
        )

    def _begin(self, entry: Entry) -> None:
        source = self._module(entry.module)
        if not entry.name and self._only_reads(entry.module):
            return
        self._load(entry.module)
        name = entry.name.partition(".")[0]
        at = [unit for unit in source.statements if entry.line is not None and unit.line <= entry.line][-1:]
        called = [each for each, units in source.units.items() if at and at[0] in units]
        if source.is_outside or source.why:
            self._unknown[entry.module, entry.name or TOP] = source.why or "its source is not known"
        elif source.is_bound(name) or called:
            self._reach_all(self.stands_for(entry.module, (name if source.is_bound(name) else called[0],)))
        elif at:
            self._add(entry.module, name, at)
        elif name:
            self._unknown[entry.module, entry.name] = f"{entry.module} does not define it"
            if entry.module not in self._partial:  # it is made there in some way, from what stands there
                self._reach_all([_Target(entry.module, None)])

    def _add(self, module: str, name: str, units: Iterable[_Unit]) -> None:
        """Count statements as of a part."""
        part = self._reached.setdefault((module, name), [])
        for unit in units:
            if unit not in part:
                part.append(unit)
                self._left.append((module, unit))

    def _reach_all(self, targets: Iterable[_Target]) -> None:
        for module, name, _, is_outside in targets:
            source = self._module(module)
            if is_outside or (module, name or "*") in self._reached:
                continue
            if source.why:
                self._unknown[module, name or TOP] = source.why
            elif name is None and module not in self._whole:
                self._whole.add(module)
                self._load(module)
                aside = {hook.name for hook in source.hooks if hook.by[1:][-1:] in _ASIDE}
                for _, what in source.imports.get("*", ()):
                    self._reach_all(self.imported(module, what._replace(attribute=None)))
                for each in {**source.units, **source.imports}.keys() - aside - {"*"}:
                    self._reach_all(self.stands_for(module, (each,)))
            elif name is not None and name not in source.units and module in self._partial:
                self._unknown[module, name] = "its source is not known"
            elif name is not None:
                self._add(module, name, self._units(module, name))

    def _load(self, *modules: str) -> None:
        """Count what happens when modules and the packages around them are loaded."""
        left = [*modules]
        while left:
            name = left.pop()
            if name in self._loaded:
                continue
            self._loaded.add(name)
            source = self._module(name)
            if source.why:
                self._unknown[name, TOP] = source.why
            left += [name.rpartition(".")[0] or name, *self._loads(name, source.loads)]
            self._act(name, source)

    def _loads(self, module: str, imports: Iterable[_Import]) -> Iterator[str]:
        for what in imports:
            yield self._absolute(module, what)
            if what.attribute:  # which may be a module
                yield f"{self._absolute(module, what)}.{what.attribute}"

    def _act(self, module: str, source: _Module) -> None:
        """Sort what a module does when it is loaded: to its own globals, or to anything else."""
        run = [unit.line for unit in source.statements if not unit.waits and self._runs(module, unit.node)]
        for unit, chain, is_call in source.effects:
            root = chain[0]
            is_idle = is_call and root in _IDLE_BUILTINS and not source.is_bound(root)
            is_idle |= self._is_pyexps(module, chain, "register_encoder")  # the hash has what an encoder gives
            if unit.waits or is_idle or any(line <= unit.line for line in run):
                continue
            if any(map(self._is_experiment, self.stands_for(module, (root,)))):
                continue
            if root not in source.units or root in source.imports or (root in source.defined and is_call):
                self._add(module, TOP, [unit])
            elif root not in source.defined and not source.is_fresh(root):
                self._reach_all(self.stands_for(module, (root,)))

    def _runs(self, module: str, node: ast.AST, *, is_called: bool = False) -> bool:
        """Whether a statement runs an experiment, itself or in a function that it calls."""
        for each in () if isinstance(node, _DEFINITIONS) and not is_called else ast.walk(node):
            (name, *attributes), base = _chain(each.func) if isinstance(each, ast.Call) else (("",), each)
            if attributes[-1:] == ["run"]:
                made = not name and self.is_maker(module, base)
                if made or any(map(self._is_experiment, self.stands_for(module, (name, *attributes[:-1])))):
                    return True
            elif name and not attributes and not is_called:
                for target in self.stands_for(module, (name,)):
                    if any(self._runs(target.module, unit.node, is_called=True) for unit in self._values(target)):
                        return True
        return False

    def _follow_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._begin(entry)
        while self._left:
            while self._left:
                self._follow(*self._left.pop())
            for module in sorted(self._loaded):
                source = self._module(module)
                for hook in source.hooks:
                    if (module, hook.name) not in self._reached and self._registers(module, hook):
                        self._add(module, hook.name, self._units(module, hook.name))
                for unit, chain, is_call in source.effects:
                    for target in self.stands_for(module, chain) if unit.waits else ():
                        # Under the guard, what changes a global of another module.
                        is_called = is_call and target.name in self._module(target.module).defined
                        if target.module != module and target[:2] in self._reached and not is_called:
                            self._add(module, TOP, [unit])

    def _follow(self, module: str, unit: _Unit) -> None:
        reading = self._read(module, unit)
        said = " ".join(each for each in reading.tokens if isinstance(each, str))
        self._asks_subclasses |= _ASKS_SUBCLASSES.search(said) is not None
        self._load(*self._loads(module, reading.imports))
        for used, targets, _ in reading.uses:
            self._reach_all(targets)
            if module in self._partial and not targets and used not in _BUILTINS and unit.line:
                self._unknown[module, used] = "its source is not known"

    # What registers itself.

    def _registers(self, module: str, hook: _Hook) -> bool:
        """Whether a function or class that nothing names is entered where it is defined into something reached."""
        for target in self.stands_for(module, hook.by):
            is_aside = hook.by[1:][-1:] in _ASIDE and self._is_experiment(target)
            if not hook.levels:
                is_entered = target[:2] in self._reached and (hook.is_metaclass or self._asks_subclasses)
            elif target.is_outside:
                is_entered = _ACTS.match(hook.by[-1]) is not None
            else:
                is_entered = not is_aside and self._keeps(target, hook.levels)
            if is_entered:
                return True
        return False

    def _keeps(self, hook: _Target, levels: int) -> bool:
        """Whether a decorator may change the value of a global that is reached, where it is used."""
        left = [(hook, levels)]
        seen = set()
        while left:
            target, levels = left.pop()
            units = [] if target in seen else self._values(target)
            seen.add(target)
            source, name = self._module(target.module), target.name or ""
            is_value = bool(units) and name not in source.defined and not source.is_constant(name)
            if units and target[:2] in self._reached and (target.rest or is_value):
                return True
            for unit in units:
                for _, targets, depth in self._read(target.module, unit).uses:
                    left += [(each, 1) for each in targets if depth <= levels]
        return False


_Seen = frozenset[tuple[str, str]]
_MISSING = ("?",)


def _hash(tokens: Iterable[str]) -> str:
    return sha256("\n".join([SCHEME, *tokens]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
