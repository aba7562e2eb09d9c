"""The fingerprint of an experiment's code: its functions, and what of the project they reach, by the syntax tree.

Knows Python's scopes, imports and statements, and nothing of files: the sources come as an argument. What is not among
the sources (the standard library, installed packages) is known by its name only. `docs/reference/code.md` says what
counts and what does not.

A source is cut into its top-level statements first, and a function or class is parsed when it is reached: parsing
all of a project takes longer than the rest together.
"""

import ast
import builtins
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

#: Begins what is hashed, so that another scheme has other digests.
SCHEME = "code1"

#: Begins the digest of a part that cannot be told; the reason follows.
UNKNOWN = "unknown"

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
    """A fingerprint: a hash of all, a digest of each part by its qualified name, and what could not be followed.

    The hash is `unknown` if a part is.
    """

    hash: str
    parts: Mapping[str, str]
    blind: tuple[str, ...] = ()


def fingerprint(
    entries: Iterable[Entry],
    sources: Mapping[str, str],
    packages: Container[str] = (),
    partial: Container[str] = (),
) -> Code:
    """The fingerprint of what these reach in the sources, which are by module name.

    `packages` are the modules that are packages; of a `partial` one, such as a notebook, the source has gaps: a name
    that it lacks is unknown. A module with an entry goes by its last name, so that `python pkg/main.py` and
    `python -m pkg.main` agree.

    >>> fingerprint([Entry("main", "f")], {"main": "import helper\\ndef f(x): return helper.g(x)",
    ...     "helper": "LR = 0.1\\ndef g(x): return x * LR\\ndef h(x): return x"}).parts.keys()
    dict_keys(['helper.LR', 'helper.g', 'main.f'])
    """
    entries = list(entries)
    while True:
        try:
            return _Walk(entries, sources, packages, partial).code()
        except _CutWrongly:
            continue  # that source is now known to need parsing as a whole


def as_data(code: Code | None) -> dict[str, Any]:
    """The fingerprint as a record has it; empty where it is not known.

    >>> as_data(Code("1a2b", {"main.f": "3c"}))
    {'hash': '1a2b', 'parts': {'main.f': '3c'}}
    """
    return {} if code is None else {"hash": code.hash, "parts": dict(code.parts)}


def same(old: Code, new: Code) -> bool | None:
    """Whether two fingerprints are of the same code; None if that cannot be told."""
    changes = list(_changes(old.parts, new.parts))
    if any(word != UNKNOWN for _, word in changes):
        return False
    return None if changes else True


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The parts that differ, in words.

    >>> difference({"helper.f": "1", "main.LR": "2"}, {"helper.f": "3", "helper.g": "4"})
    'helper.f changed, helper.g is new, main.LR is gone'
    """
    return ", ".join(f"{name} {_WORDS[word]}" for name, word in _changes(old, new))


_WORDS = {"changed": "changed", "new": "is new", "gone": "is gone", UNKNOWN: "is unknown"}


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if UNKNOWN in ((before or "")[: len(UNKNOWN)], (after or "")[: len(UNKNOWN)]):
            yield name, UNKNOWN
        elif before != after:
            yield name, "new" if before is None else "gone" if after is None else "changed"


# What the names of functions say.

#: Called for its effect also where its value is kept, as in `old = np.seterr(all="raise")`; a decorator that registers.
_ACTS = re.compile(r"(?:set|seed|manual_seed|configure|enable|disable|register|patch|use)(?![a-z])|set(?:err|up)|set_")

#: Builtin functions, and methods of loggers, that change nothing which a result depends on.
_IDLE_BUILTINS = frozenset(
    ["abs", "all", "any", "bool", "dict", "enumerate", "float", "frozenset", "int", "len", "list", "max", "min"]
) | {"print", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"}
_IDLE_METHODS = frozenset(["critical", "debug", "error", "exception", "info", "log", "warn", "warning"])

#: The method of an experiment that ends the loading of a script: what comes after it is not for the workers.
_RUN = "run"

#: The decorators of an experiment for functions that are no part of it, or begin one.
_ASIDE = (("configs",), ("report",), ("initializer",))

#: Bases that give a class no use for the annotations in its body, by their last name.
_PLAIN_BASES = frozenset(
    ["ABC", "Generic", "Module", "Protocol"]
    + [name for name, value in vars(builtins).items() if isinstance(value, type)]
)

_BUILTINS = frozenset([*dir(builtins), "__file__", "__path__", "__builtins__", "__class__", "__cached__"])

_MAKER = ("pyexp", "experiment")


# What a statement says and what it names.


class _Use(NamedTuple):
    """A global name that is used, and the attributes that are taken of it.

    An attribute `*` is one whose name is computed.
    """

    name: str
    chain: tuple[str, ...] = ()


class _Import(NamedTuple):
    """An import of a module, or of a name in it; `level` counts the leading dots."""

    level: int
    module: str
    attribute: str | None


class _Scope:
    """The names bound in a function, class or comprehension, and those used there that may be bound outside."""

    __slots__ = ("bound", "depth", "imports", "kind", "left_out", "outer", "uses")

    def __init__(self, kind: str, outer: "_Scope | None", depth: int) -> None:
        self.kind = kind
        self.outer = outer
        self.depth = depth
        self.bound: set[str] = set()
        self.left_out: dict[str, bool] = {}  # names declared global (True) or nonlocal (False)
        self.imports: dict[str, list[_Import]] = {}
        self.uses: list[tuple[_Use, int]] = []


class _Class:
    """The annotations in the body of a class, and what it has that may give them a meaning."""

    __slots__ = ("bases", "hints", "is_plain", "uses")

    def __init__(self, node: ast.ClassDef) -> None:
        chains = [_chain(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
        self.is_plain = not (node.decorator_list or node.keywords)
        self.bases = [_Use(base.id, chain) if isinstance(base, ast.Name) else None for base, chain in chains]
        self.hints: list[str] = []
        self.uses: dict[_Use, int] = {}


class _Reading:
    """A syntax tree read once: its tokens, without what does not count, and all the names that it needs.

    `uses` has for each the depth of functions in which it is used: 0 is evaluated when the statement is.
    """

    def __init__(self, makers: Container[tuple[str, ...]], *, is_outline: bool = False) -> None:
        self.tokens: list[str] = []
        self.uses: dict[_Use, int] = {}
        self.imported: dict[tuple[_Import, tuple[str, ...]], int] = {}
        self.imports: list[_Import] = []
        self.classes: list[_Class] = []
        self.runs: list[_Use] = []
        self.blind: set[str] = set()
        self.asks_subclasses = False
        self.is_too_deep = False
        self.has_call = False
        self._makers = makers
        self._is_outline = is_outline
        self._open: list[_Class] = []
        self._scope = _Scope("module", None, 0)

    @property
    def bound(self) -> set[str]:
        """The names that are bound at the top level of what was read."""
        return self._scope.bound

    def read(self, node: ast.AST) -> None:
        """Read this, too."""
        try:
            self._node(node)
        except RecursionError:
            self.is_too_deep = True
        self._note_uses()

    def _note_uses(self) -> None:
        for use, depth in self._scope.uses:
            self.uses[use] = min(depth, self.uses.get(use, depth))
        self._scope.uses.clear()

    # Tokens.

    def _node(self, node: Any) -> None:
        special = _SPECIAL.get(node.__class__)
        if special is None:
            self._plain(node)
        else:
            special(self, node)

    def _plain(self, node: Any) -> None:
        tokens = self.tokens
        kind = node.__class__
        try:
            opening, fields = _FIELDS[kind]
        except KeyError:
            opening, fields = f"({kind.__name__}", tuple(name for name in kind._fields if name not in _NOT_COUNTED)
            _FIELDS[kind] = opening, fields
        tokens.append(opening)
        for field in fields:
            value = getattr(node, field, None)
            if value is None:
                continue
            if value.__class__ is list:
                if value:
                    self._list(field, value)
            elif isinstance(value, ast.AST):
                tokens.append(field)
                self._node(value)
            else:
                tokens.append(f"{field}={value}")
        tokens.append(")")

    def _list(self, field: str, nodes: Sequence[Any]) -> None:
        tokens = self.tokens
        tokens.append(field + "[")
        for each in nodes:
            if isinstance(each, ast.AST):
                self._node(each)
            else:  # a name; None where a keyword has no default, or before ** in a dict
                tokens.append(f"={each}")
        tokens.append("]")

    def _constant(self, node: ast.Constant) -> None:
        self.tokens.append(_constant_token(node.value))

    def _joined(self, node: ast.JoinedStr) -> None:
        """An f-string: whether there are empty texts in it depends on the version of Python."""
        values = [each for each in node.values if getattr(each, "value", None) != ""]
        if all(isinstance(each, ast.Constant) for each in values):
            self.tokens.append(_constant_token("".join(str(getattr(each, "value", "")) for each in values)))
        else:
            self.tokens.append("(JoinedStr")
            self._list("values", values)
            self.tokens.append(")")

    def _expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring, or a comment that is written as one
            self._plain(node)

    def _pass(self, node: ast.Pass) -> None:
        """Leave it out: a body with a docstring needs none."""

    # Names.

    def _use(self, name: str, chain: tuple[str, ...] = ()) -> None:
        scope = self._scope
        if scope.kind == "class" and name in scope.bound:
            for each in scope.imports.get(name, ()):
                self._use_import(each, chain, scope.depth)
        else:
            scope.uses.append((_Use(name, chain), scope.depth))

    def _use_import(self, what: _Import, chain: tuple[str, ...], depth: int) -> None:
        key = (what, chain)
        self.imported[key] = min(depth, self.imported.get(key, depth))

    def _bind(self, name: str) -> None:
        scope = self._scope
        if name in scope.left_out:
            if scope.left_out[name]:
                self._use_global(_Use(name), scope.depth)
        else:
            scope.bound.add(name)

    def _use_global(self, use: _Use, depth: int) -> None:
        self.uses[use] = min(depth, self.uses.get(use, depth))

    def _name(self, node: ast.Name) -> None:
        self.tokens.append(f"N{node.id}")
        if node.ctx.__class__ is ast.Load:
            self._use(node.id)
        else:
            self._bind(node.id)

    def _attribute(self, node: ast.Attribute) -> None:
        base, chain = _chain(node)
        if "__subclasses__" in chain:
            self.asks_subclasses = True
        if isinstance(base, ast.Name):
            self.tokens.append(f"N{base.id}.{'.'.join(chain)}")
            self._use(base.id, chain)
        else:
            self.tokens.append(f"(.{'.'.join(chain)}")
            self._node(base)
            self.tokens.append(")")

    def _declaration(self, node: ast.Global | ast.Nonlocal) -> None:
        is_global = isinstance(node, ast.Global)
        self.tokens.append(f"({'Global' if is_global else 'Nonlocal'} {' '.join(node.names)})")
        self._scope.left_out.update(dict.fromkeys(node.names, is_global))

    def _handler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self._bind(node.name)
        self._plain(node)

    def _match_mapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self._bind(node.rest)
        self._plain(node)

    def _assign(self, node: ast.Assign) -> None:
        """The value first: in a class, it may use a name from outside that is bound there from then on."""
        self.tokens.append("(Assign")
        self._node(node.value)
        self._list("targets", node.targets)
        self.tokens.append(")")

    def _operation(self, node: ast.BinOp) -> None:
        """An operator's operands, of a long sum without a call for each of its terms."""
        spine: list[ast.BinOp] = [node]
        while isinstance(spine[-1].left, ast.BinOp):
            spine.append(spine[-1].left)
        self.tokens.append("(BinOp" * len(spine))
        self._node(spine[-1].left)
        for each in reversed(spine):
            self.tokens.append(each.op.__class__.__name__)
            self._node(each.right)
            self.tokens.append(")")

    def _augment(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._use(node.target.id)
        self._plain(node)

    def _walrus(self, node: ast.NamedExpr) -> None:
        self.tokens.append("(NamedExpr")
        self._node(node.value)
        inner, self._scope = self._scope, self._not_comprehension()
        self._node(node.target)
        self._scope = inner
        self.tokens.append(")")

    def _not_comprehension(self) -> _Scope:
        scope = self._scope
        while scope.kind == "comprehension" and scope.outer is not None:
            scope = scope.outer
        return scope

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._plain(node)
        for name, what in _imports(node):
            self.imports.append(what)
            if name is None:  # a star, which may stand at the top level only
                continue
            self._bind(name)
            if self._scope.left_out.get(name):
                self._use_import(what, (), self._scope.depth)
            self._scope.imports.setdefault(name, []).append(what)

    # Scopes.

    def _enter(self, kind: str) -> None:
        self._scope = _Scope(kind, self._scope, self._scope.depth + (kind == "function"))

    def _leave(self) -> None:
        """Hand on what is not bound here to where Python looks for it, which is never in a class around it."""
        scope = outer = self._scope
        while (outer is scope or outer.kind == "class") and outer.outer is not None:
            outer = outer.outer
        self._scope = scope.outer or scope
        for use, depth in scope.uses:
            if scope.left_out.get(use.name):
                self._use_global(use, depth)
            elif scope.kind == "class" or use.name not in scope.bound:
                outer.uses.append((use, depth))
            else:
                for each in scope.imports.get(use.name, ()):
                    self._use_import(each, use.chain, depth)

    def _function(self, node: Any) -> None:
        self._bind(node.name)
        if self._is_outline:
            self.tokens.append(f"(def {node.name})")
            return
        decorators = [_chain(each.func if isinstance(each, ast.Call) else each)[1] for each in node.decorator_list]
        self.tokens.append(f"({node.__class__.__name__} {node.name}")
        self._decorators(node)
        self._signature(node.args, with_hints=any(chain[-1:] == ("register",) for chain in decorators))
        self._enter("function")
        self._scope.bound.update(each.name for each in getattr(node, "type_params", ()))
        self._parameters(node.args)
        self._list("body", node.body)
        self._leave()
        self.tokens.append(")")

    def _lambda(self, node: ast.Lambda) -> None:
        self.tokens.append("(Lambda")
        self._signature(node.args, with_hints=False)
        self._enter("function")
        self._parameters(node.args)
        self._node(node.body)
        self._leave()
        self.tokens.append(")")

    def _signature(self, args: ast.arguments, *, with_hints: bool) -> None:
        """The names and defaults; the annotations where `singledispatch` dispatches on them."""
        self._plain(args)
        if with_hints:
            for arg in _args(args):
                if arg.annotation is not None:
                    self._node(arg.annotation)

    def _parameters(self, args: ast.arguments) -> None:
        self._scope.bound.update(arg.arg for arg in _args(args))

    def _decorators(self, node: Any) -> None:
        for each in node.decorator_list:
            called = each.func if isinstance(each, ast.Call) else each
            base, chain = _chain(called)
            if not isinstance(base, ast.Name) or (base.id, *chain) not in self._makers:
                self.tokens.append("@")
                self._node(each)

    def _class(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        if self._is_outline:
            self.tokens.append(f"(class {node.name})")
            return
        self.tokens.append(f"(ClassDef {node.name}")
        self._decorators(node)
        about = _Class(node)
        self.classes.append(about)
        self._open.append(about)
        outer, before_it = self._scope, len(self._scope.uses)
        self._list("bases", node.bases)
        self._list("keywords", node.keywords)
        self._enter("class")
        self.tokens.append("body[")
        for statement in node.body:
            before = set(self._scope.bound)
            self._node(statement)
            if isinstance(statement, _CONDITIONAL):  # what it binds may be bound outside instead
                self._scope.bound &= before
        self._leave()
        parameters = {each.name for each in getattr(node, "type_params", ())}
        outer.uses[before_it:] = [each for each in outer.uses[before_it:] if each[0].name not in parameters]
        self._open.pop()
        self.tokens.append("])")

    def _hint(self, node: ast.AnnAssign) -> None:
        """An annotated assignment: one without annotation; in the body of a class, that is noted beside it."""
        name = getattr(node.target, "id", None)
        if self._scope.kind == "class" and name is not None:
            about = self._open[-1]
            outside = self.tokens, self._scope.uses
            self.tokens, self._scope.uses = about.hints, []
            self.tokens.append(f"{name}{':' if node.value is None else '='}")
            self._node(node.annotation)
            about.uses.update(self._scope.uses)
            self.tokens, self._scope.uses = outside
        if node.value is not None:
            self._node(ast.Assign(targets=[node.target], value=node.value))
        elif name is not None and self._scope.kind == "function":
            self._bind(name)

    def _comprehension(self, node: Any) -> None:
        self.tokens.append(f"({node.__class__.__name__}")
        self._node(node.generators[0].iter)  # which is evaluated outside
        self._enter("comprehension")
        for i, each in enumerate(node.generators):
            self.tokens.append(f"for {each.is_async}")
            self._node(each.target)
            if i:
                self._node(each.iter)
            self._list("ifs", each.ifs)
        for field in ("key", "value", "elt"):
            if hasattr(node, field):
                self._node(getattr(node, field))
        self._leave()
        self.tokens.append(")")

    # Calls that name something by a string.

    def _call(self, node: ast.Call) -> None:
        self.has_call = True
        base, chain = _chain(node.func)
        if not isinstance(base, ast.Name):
            self._plain(node)
            return
        last = chain[-1] if chain else base.id
        if chain and last == _RUN:
            self.runs.append(_Use(base.id, chain[:-1]))
        if last in (_BY_STRING if not chain else _MODULE_BY_STRING) and self._by_string(node, last):
            return
        if (base.id, *chain) in self._makers:
            node = ast.Call(func=node.func, args=node.args, keywords=[])
        self._plain(node)

    def _by_string(self, node: ast.Call, called: str) -> bool:
        """Note what a string names; whether the tokens are written already."""
        args = node.args
        if called in _ATTRIBUTE_BY_STRING:
            base, chain = _chain(args[0]) if args else (node, ())
            if not isinstance(base, ast.Name) or len(args) < 2:
                return False
            self._use(called)
            self._use(base.id, (*chain, _text(args[1]) or "*"))
            self.tokens.append(f"(Call {called} N{'.'.join((base.id, *chain))}")
            self._list("args", args[1:])
            self.tokens.append(")")
            return True
        if called == "globals":
            self._use("*")
        elif called in ("import_module", "__import__"):
            name = _text(args[0]) if args else None
            if name is None or name.startswith("."):
                self.blind.add(f"{called} of a name that is computed")
            else:
                self.imports.append(_Import(0, name, None))
                self._use_import(_Import(0, name, None), (), self._scope.depth)
        else:
            self.blind.add(called)
        return False


_NOT_COUNTED = frozenset(["annotation", "ctx", "kind", "returns", "str", "type_comment", "type_params"])
_ATTRIBUTE_BY_STRING = frozenset(["delattr", "getattr", "hasattr", "setattr"])
_MODULE_BY_STRING = frozenset(["import_module", "run_module", "run_path"])
_BY_STRING = _ATTRIBUTE_BY_STRING | _MODULE_BY_STRING | {"__import__", "eval", "exec", "globals"}
_CONDITIONAL = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
_FIELDS: dict[type[ast.AST], tuple[str, tuple[str, ...]]] = {}
_SPECIAL: dict[type[ast.AST], Any] = {
    ast.AnnAssign: _Reading._hint,
    ast.Assign: _Reading._assign,
    ast.AsyncFunctionDef: _Reading._function,
    ast.Attribute: _Reading._attribute,
    ast.AugAssign: _Reading._augment,
    ast.BinOp: _Reading._operation,
    ast.Call: _Reading._call,
    ast.ClassDef: _Reading._class,
    ast.Constant: _Reading._constant,
    ast.DictComp: _Reading._comprehension,
    ast.ExceptHandler: _Reading._handler,
    ast.Expr: _Reading._expr,
    ast.FunctionDef: _Reading._function,
    ast.GeneratorExp: _Reading._comprehension,
    ast.Global: _Reading._declaration,
    ast.Import: _Reading._import,
    ast.ImportFrom: _Reading._import,
    ast.JoinedStr: _Reading._joined,
    ast.Lambda: _Reading._lambda,
    ast.ListComp: _Reading._comprehension,
    ast.MatchAs: _Reading._handler,
    ast.MatchMapping: _Reading._match_mapping,
    ast.MatchStar: _Reading._handler,
    ast.Name: _Reading._name,
    ast.NamedExpr: _Reading._walrus,
    ast.Nonlocal: _Reading._declaration,
    ast.Pass: _Reading._pass,
    ast.SetComp: _Reading._comprehension,
}


def _chain(node: ast.AST) -> tuple[ast.AST, tuple[str, ...]]:
    """What attributes are taken of, and which, outermost last."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return node, tuple(reversed(names))


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _args(args: ast.arguments) -> Iterator[ast.arg]:
    yield from (*args.posonlyargs, *args.args, *args.kwonlyargs)
    yield from (arg for arg in (args.vararg, args.kwarg) if arg is not None)


def _constant_token(value: Any) -> str:
    """A constant by type and value, in letters that no version of Unicode changes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int {value:x}"  # repr is limited
    return f"{type(value).__name__} {value!a}"


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str | None, _Import]]:
    """The names that an import binds, and what to; None for a star."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            what = _Import(node.level, node.module or "", alias.name)
            yield (None if alias.name == "*" else alias.asname or alias.name), what
        elif alias.asname:
            yield alias.asname, _Import(0, alias.name, None)
        else:
            yield alias.name.partition(".")[0], _Import(0, alias.name, "")


# A module: its top-level statements, by the names that they bind or change.


class _CutWrongly(Exception):
    """Raised when a source turns out not to be cut at its statements."""


class _DoesNotParse(Exception):
    """Raised for a source that this Python does not parse, with the reason."""


class _Unit:
    """A top-level statement, or one inside `if` at the top level, with the conditions that it stands under.

    A function or class is a text until it is read.
    """

    def __init__(self, module: "_Module", line: int, node: ast.stmt | str, conditions: Sequence[ast.AST]) -> None:
        self.module = module
        self.line = line
        self.node = node
        self.conditions = conditions
        self.is_definition = isinstance(node, (str, *_DEFINITIONS))
        self.is_outline = not self.is_definition and isinstance(node, _COMPOUND)
        self.value_only = False
        self.inside = ""  # the function that it is of, if that is not read as a whole
        self._reading: _Reading | None = None

    def reading(self) -> _Reading:
        """What the statement says. Raises `_CutWrongly`."""
        if self._reading is None:
            node = self.parsed()
            found = _Reading(self.module.makers, is_outline=self.is_outline)
            for each in self.conditions:
                found.tokens.append("if")
                if isinstance(each, ast.stmt):
                    outline = _Reading(self.module.makers, is_outline=True)
                    outline.read(each)
                    found.tokens += outline.tokens
                    found.uses.update(outline.uses)
                else:
                    found.read(each)
            found.read(node.value if self.value_only else node)  # type: ignore[attr-defined]
            self._reading = found
        return self._reading

    def parsed(self) -> ast.stmt:
        """The tree of the statement."""
        if not isinstance(self.node, str):
            return self.node
        try:
            (node,) = ast.parse(self.node).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            _whole.add(self.module.text)
            raise _CutWrongly from None
        return node


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPOUND = (*_CONDITIONAL, ast.With, ast.AsyncWith)

#: The sources that must be parsed as a whole.
_whole: set[str] = set()


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise _DoesNotParse(f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _DoesNotParse(str(error)) from None


class _Effect(NamedTuple):
    """A statement that changes something other than by binding a name.

    `root` is what it acts on, and `chain` the attributes taken of it; None if that is not a name. Under the script's
    guard it `waits`: it counts for a global that is reached, but not by itself.
    """

    unit: _Unit
    root: str | None
    chain: tuple[str, ...]
    is_call: bool
    waits: bool


class _Hook(NamedTuple):
    """A function or class that may be registered where it is defined: by a decorator, a base or a metaclass.

    `levels` is how deep the functions of a decorator run there: 2 where it is called first.
    """

    name: str
    kind: str
    by: _Use
    levels: int = 0


class _Module:
    """What a source defines. Raises `_DoesNotParse`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.units: dict[str, list[_Unit]] = {}
        self.changes: dict[str, list[_Unit]] = {}
        self.imports: dict[str, list[tuple[int, _Import]]] = {}
        self.stars: list[tuple[int, _Import]] = []
        self.loads: list[_Import] = []
        self.effects: list[_Effect] = []
        self.hooks: list[_Hook] = []
        self.runs: list[tuple[int, _Use | None]] = []
        self.makers: set[tuple[str, ...]] = set()
        self.experiments: set[str] = set()
        self.aside: set[str] = set()
        self.last: dict[str, int] = {}
        self.lines: list[tuple[int, str, _Unit]] = []
        self._has_walrus = ":=" in text
        self._has_run = f".{_RUN}(" in text
        cut = None if text in _whole else _cut(text)
        try:
            body = _parsed(text if cut is None else cut[0]).body
        except _DoesNotParse:
            if cut is None:
                raise
            cut, body = None, _parsed(text).body
        if body and isinstance(body[0], ast.Expr) and _text(body[0].value) is not None:
            self._add("__doc__", _Unit(self, 0, ast.Assign(targets=[], value=body[0].value), ()))
        for node in body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._find_makers(node)
        self._sort(body, {} if cut is None else cut[1])
        if "global " in text:
            self._find_setters()
        for effect in self.effects:
            if effect.root in self.units and self._is_changed(effect.root, effect):
                self.changes.setdefault(effect.root, []).append(effect.unit)

    # Sorting statements.

    def _sort(self, body: Sequence[ast.stmt], definitions: Mapping[int, tuple[str, str]]) -> None:
        left = dict(definitions)
        for node in body:
            line = min((each.lineno for each in getattr(node, "decorator_list", ())), default=node.lineno)
            for other in [each for each in left if each < line]:  # they are in order
                name, definition = left.pop(other)
                self._add(name, _Unit(self, other, definition, ()))
            if line in left and isinstance(node, _DEFINITIONS):
                _, definition = left.pop(line)
                self._defined(_Unit(self, line, definition, ()), node)
            else:
                self._statement(node, (), False)
        for other, (name, definition) in left.items():
            self._add(name, _Unit(self, other, definition, ()))

    def _find_setters(self) -> None:
        """Note the assignments to a global in functions, which may be called though nothing here reaches them."""
        for name, unit in [(name, unit) for name, units in self.units.items() for unit in units if unit.is_definition]:
            if isinstance(unit.node, str) and "global " not in unit.node:
                continue
            inside = list(ast.walk(unit.parsed()))
            declared = {each for node in inside if isinstance(node, ast.Global) for each in node.names}
            for node in inside if declared else ():
                for each in declared & set(_set_names(node)):
                    setter = _Unit(self, unit.line, node, ())  # type: ignore[arg-type]
                    setter.inside = name
                    self.changes.setdefault(each, []).append(setter)

    def _is_changed(self, name: str, effect: _Effect) -> bool:
        """Whether an effect is one on the value of a name, not a call of a function."""
        return not (effect.is_call and (self.is_defined(name) or name in self.experiments))

    def _find_makers(self, node: ast.Import | ast.ImportFrom) -> None:
        """Note what pyexp's decorator is called here."""
        for name, what in _imports(node):
            if name is not None and not what.level and what.module.partition(".")[0] == _MAKER[0]:
                if what.attribute == _MAKER[1]:
                    self.makers.add((name,))
                elif not what.attribute:
                    self.makers.add((name, _MAKER[1]))

    def _is_maker(self, node: ast.expr) -> bool:
        base, chain = _chain(node)
        return (getattr(base, "id", ""), *chain) in self.makers

    def _add(self, name: str, unit: _Unit) -> None:
        self.units.setdefault(name, []).append(unit)
        self.last[name] = unit.line
        self.lines.append((unit.line, name, unit))

    def _defined(self, unit: _Unit, node: Any) -> None:
        """A function or class, of which the node may have no more than its head."""
        decorators = []
        for each in node.decorator_list:
            base, chain = _chain(each.func if isinstance(each, ast.Call) else each)
            if isinstance(base, ast.Name):
                decorators.append(_Hook(node.name, "decorator", _Use(base.id, chain), 1 + isinstance(each, ast.Call)))
        if any((use.chain or (use.name,))[-1] == "overload" for _, _, use, _ in decorators):
            return
        self._add(node.name, unit)
        for hook in decorators:
            if (hook.by.name, *hook.by.chain) in self.makers:
                self.experiments.add(node.name)
            else:
                self.hooks.append(hook)
                if hook.by.chain[-1:] in _ASIDE:
                    self.aside.add(node.name)
        if isinstance(node, ast.ClassDef):
            bases = [("base", each) for each in node.bases]
            for kind, each in [*bases, *(("metaclass", keyword.value) for keyword in node.keywords)]:
                base, chain = _chain(each.value if isinstance(each, ast.Subscript) else each)
                if isinstance(base, ast.Name):
                    self.hooks.append(_Hook(node.name, kind, _Use(base.id, chain)))

    def _statement(self, node: ast.stmt, conditions: tuple[ast.AST, ...], waits: bool) -> None:
        unit = _Unit(self, node.lineno, node, conditions)
        if isinstance(node, _DEFINITIONS):
            unit.line = min((each.lineno for each in node.decorator_list), default=node.lineno)
            self._defined(unit, node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._imported(unit, node, waits, is_conditional=bool(conditions))
        elif isinstance(node, ast.If):
            self._branches(node, conditions, waits)
        elif isinstance(node, _COMPOUND):
            self._compound(unit, node, waits)
        else:
            self._simple(unit, node, waits)

    def _branches(self, node: ast.If, conditions: tuple[ast.AST, ...], waits: bool) -> None:
        is_guard, is_typing = _is_guard(node.test), _chain(node.test)
        if is_guard:
            bodies = [(node.body, conditions, True), (node.orelse, conditions, waits)]
        elif is_typing[1][-1:] == ("TYPE_CHECKING",) or getattr(node.test, "id", None) == "TYPE_CHECKING":
            bodies = [(node.orelse, conditions, waits)]
        else:
            negated = ast.UnaryOp(op=ast.Not(), operand=node.test)
            bodies = [
                (node.body, (*conditions, node.test), waits),
                (node.orelse, (*conditions, negated), waits),
            ]
            if self._has_walrus:
                self._simple(_Unit(self, node.lineno, ast.Expr(node.test), conditions), ast.Expr(node.test), True)
        for body, stands_under, is_waiting in bodies:
            for each in body:
                self._statement(each, stands_under, is_waiting)

    def _compound(self, unit: _Unit, node: ast.stmt, waits: bool) -> None:
        """A loop, `with`, `try` or `match`: one piece, but for the functions and classes in it."""
        for name in self._bound(node, unit):
            self._add(name, unit)
        for each in _inside(node):
            if isinstance(each, _DEFINITIONS):
                self._defined(_Unit(self, each.lineno, each, (*unit.conditions, node)), each)
            elif isinstance(each, (ast.Import, ast.ImportFrom)):
                self._imported(unit, each, waits, is_conditional=False)
            else:
                self._effects(unit, each, waits)

    def _simple(self, unit: _Unit, node: ast.stmt, waits: bool) -> None:
        self.lines.append((unit.line, "", unit))
        for name in self._bound(node, unit):
            self._add(name, unit)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and self._is_maker(node.value.func):
                self.experiments.add(name)
        self._effects(unit, node, waits)

    def _bound(self, node: ast.stmt, unit: _Unit) -> Iterable[str]:
        if not self._has_walrus and not isinstance(node, _COMPOUND):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]):
                    return [name]
                case ast.AnnAssign(value=None) | ast.Expr() | ast.Assert() | ast.Pass():
                    return []
        return sorted(unit.reading().bound)

    def _imported(self, unit: _Unit, node: ast.Import | ast.ImportFrom, waits: bool, *, is_conditional: bool) -> None:
        for name, what in _imports(node):
            if not waits:
                self.loads.append(what)
            if name is None:
                self.stars.append((node.lineno, what))
            else:
                self.imports.setdefault(name, []).append((node.lineno, what))
                self.last[name] = node.lineno
                if is_conditional:
                    self._add(name, unit)

    def _effects(self, unit: _Unit, node: ast.stmt, waits: bool) -> None:
        if not waits:
            for each in ast.walk(node) if self._has_run else (getattr(node, "value", None),):
                base, chain = _chain(each.func) if isinstance(each, ast.Call) else (None, ())
                if isinstance(base, ast.Name) and (not chain or chain[-1] == _RUN):
                    self.runs.append((unit.line, _Use(base.id, chain)))
                elif isinstance(base, ast.Call) and chain == (_RUN,) and self._is_maker(base.func):
                    self.runs.append((unit.line, None))
        for (root, chain), is_call in _roots(node):
            self.effects.append(_Effect(unit, root, chain, is_call, waits))
        value = getattr(node, "value", None)
        if isinstance(value, ast.Call) and isinstance(node, (ast.Assign, ast.AnnAssign)):
            base, chain = _chain(value.func)
            called = chain[-1] if chain else getattr(base, "id", "")
            is_unnamed = isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["_"]
            if called not in _BUILTINS and (is_unnamed or _ACTS.match(called)):
                acting = _Unit(self, unit.line, node, unit.conditions)
                acting.value_only = True
                self.effects.append(_Effect(acting, getattr(base, "id", None), chain, True, waits))

    # Asking.

    def is_bound(self, name: str) -> bool:
        """Whether a statement of this module binds the name."""
        return name in self.units or name in self.imports

    def is_defined(self, name: str) -> bool:
        """Whether the name is that of a function or class here."""
        return any(unit.is_definition for unit in self.units.get(name, ()))

    def at(self, line: int) -> tuple[str, _Unit] | None:
        """The statement on a line, and the name that it binds, or an empty one."""
        before = [each for each in self.lines if each[0] <= line]
        return max(before, key=lambda each: each[:2])[1:] if before else None

    def is_constant(self, name: str) -> bool:
        """Whether the name stands for a value that cannot change."""
        return name not in self.changes and all(
            isinstance(unit.node, ast.Assign) and not unit.is_outline and _is_fixed(unit.node.value)
            for unit in self.units.get(name, ())
        )

    def is_fresh(self, name: str) -> bool:
        """Whether the name stands for a list, dict or the like that is made here and holds nothing changeable."""
        return all(
            isinstance(unit.node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
            and unit.node.value is not None
            and self._is_fresh(unit.node.value)
            for unit in self.units[name]
        )

    def _is_fresh(self, node: ast.AST) -> bool:
        own = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id not in own:
                is_idle = each.id in _IDLE_BUILTINS and not self.is_bound(each.id)
                if not is_idle and not (each.id in self.units and self.is_constant(each.id)):
                    return False
            elif isinstance(each, (ast.Attribute, ast.Subscript, ast.Lambda, ast.NamedExpr, ast.Await)):
                return False
        return True

    def exports(self) -> tuple[frozenset[str], bool]:
        """What `__all__` lists, and whether it says so plainly; without `__all__`, nothing plainly."""
        match [unit.node for unit in self.units.get("__all__", ())]:
            case [ast.Assign(value=ast.List(elts=names) | ast.Tuple(elts=names))] if "__all__" not in self.changes:
                return frozenset(_text(each) or "" for each in names), True
        return frozenset(), False


@lru_cache(maxsize=4096)
def _module(text: str, _is_whole: bool) -> _Module:
    return _Module(text)


def _is_guard(test: ast.expr) -> bool:
    """Whether a condition holds only in the script that was started."""
    match test:
        case ast.BoolOp(op=ast.And(), values=tests):
            return any(map(_is_guard, tests))
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return {getattr(left, "id", _text(left)), getattr(right, "id", _text(right))} == {"__name__", "__main__"}
    return False


def _is_fixed(node: ast.AST) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=inner):
            return _is_fixed(inner)
        case ast.Tuple(elts=inside):
            return all(map(_is_fixed, inside))
        case ast.BinOp(left=left, right=right):
            return _is_fixed(left) and _is_fixed(right)
    return False


def _inside(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements inside a compound one that hold no others, and the functions and classes."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, (ast.ExceptHandler, ast.match_case, *_COMPOUND)):
            yield from _inside(each)
        elif isinstance(each, ast.stmt):
            yield each


#: A name, or None for what is none, and the attributes that are taken of it.
_Root = tuple[str | None, tuple[str, ...]]


def _roots(node: ast.AST) -> Iterator[tuple[_Root, bool]]:
    """What a statement acts on, and whether it does by a call."""
    match node:
        case ast.Expr(value=value):
            yield from ((root, True) for root in _called(value))
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            yield from ((root, False) for target in targets for root in _set(target))
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            yield from ((root, False) for root in _set(target))


def _set_names(node: ast.AST) -> Iterator[str]:
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        for target in targets:
            yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _set(target: ast.expr) -> Iterator[_Root]:
    match target:
        case ast.Tuple(elts=inside) | ast.List(elts=inside):
            for each in inside:
                yield from _set(each)
        case ast.Starred(value=inner):
            yield from _set(inner)
        case ast.Attribute() | ast.Subscript():
            yield _root(target)


def _root(node: ast.expr) -> _Root:
    chain: tuple[str, ...] = ()
    while True:
        match node:
            case ast.Attribute(value=inner, attr=name):
                node, chain = inner, (name, *chain)
            case ast.Subscript(value=inner) | ast.Call(func=inner):
                node, chain = inner, ()
            case _:
                return (node.id if isinstance(node, ast.Name) else None), chain


def _called(node: ast.expr) -> Iterator[_Root]:
    """What is called for its effect in an expression that is a statement."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args) if name in _IDLE_BUILTINS:
            yield name, ()
            for inner in args:
                yield from _called(inner)
        case ast.Call(func=ast.Attribute(attr=name)) if name in _IDLE_METHODS:
            return
        case ast.Call():
            yield _root(node)
        case ast.Constant() | ast.Name() | ast.Attribute() | ast.Subscript() | ast.JoinedStr() | ast.Lambda():
            return
        case ast.ListComp(elt=inner) | ast.SetComp(elt=inner) | ast.GeneratorExp(elt=inner):
            yield from _called(inner)
        case _:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    yield from _called(child)


# Cutting a source into its top-level statements.

_STRING = (
    r"(?P<string>(?:"
    r'''"""(?:[^"\\]|\\.|"(?!""))*"""|'''
    r""""(?:[^"\\\n]|\\.)*"|"""
    r"""'''(?:[^'\\]|\\.|'(?!''))*'''|"""
    r"'(?:[^'\\\n]|\\.)*'))"
)
#: Brackets in brackets that hold neither comments nor more than plain strings, which are most of all.
_SIMPLE = r"""[^()\[\]{}"'#\\]++|"[^"\\\n{}]*+"(?!")|'[^'\\\n{}]*+'(?!')"""
_FLAT = rf"[(\[{{](?:{_SIMPLE})*+[)\]}}]"
_TOKEN = re.compile(
    r"""(?:[^#\\()\[\]{}"'\n]++|\n(?![^\s#)\]}]))*+(?:"""
    rf"""(?P<skip>\#[^\n]*|\\\n|[(\[{{](?:{_SIMPLE}|{_FLAT})*+[)\]}}])|{_STRING}|"""
    r"""(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<bad>["'])|(?P<cut>\n))""",
    re.DOTALL,
)
_F_STRING = re.compile(r"[fFtT][rR]?$")
_HEAD = re.compile(r"(?:async[ \t]+)?(def|class)[ \t]+(\w+)[ \t]*(\([^()'\"#]*\))?[ \t]*(:)?")
_GOES_ON = re.compile(r"(?:else|elif|except|finally)\b")


def _cut(text: str) -> tuple[str, dict[int, tuple[str, str]]] | None:
    """The source with no more than the heads of its functions and classes, and these by their lines, with their names.

    Where a head tells nothing, it is left out, too. None if the source cannot be cut safely.
    """
    starts = _starts(text)
    if starts is None:
        return None
    kept: list[str] = []
    definitions: dict[int, tuple[str, str]] = {}
    line = 1
    i = 0
    while i < len(starts) - 1:
        begin = starts[i]
        head = begin
        while text.startswith("@", head) and i < len(starts) - 2:
            i += 1
            head = starts[i]
        end = starts[i + 1]
        i += 1
        piece = text[begin:end]
        lines = piece.count("\n")
        found = _HEAD.match(text, head)
        if found is None:
            kept.append(piece)
        else:
            kind, name, bases, colon = found.groups()
            if head > begin or (kind == "class" and (bases or not colon)):
                if kind == "def":
                    stub = f"{text[begin:head]}def {name}(): pass"
                elif colon:
                    stub = f"{text[begin:head]}class {name}{bases or ''}: pass"
                else:
                    stub = None
            else:
                stub = ""
            if stub is None:
                kept.append(piece)
            else:
                definitions[line] = (name, piece)
                kept.append(stub + "\n" * (lines - stub.count("\n")))
        line += lines
    return "".join(kept), definitions


def _starts(text: str) -> list[int] | None:
    """Where the top-level statements begin, and where the text ends; None if that is not certain.

    A string within an f-string may have the same quotes since Python 3.12; its braces tell that it was cut there.
    """
    starts = [0]
    depth = 0
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "cut":
            if not depth and not _GOES_ON.match(text, found.end()):
                starts.append(found.end())
        elif kind == "bad":
            return None
        elif kind == "string":
            string = found.group("string")
            before = text[max(found.start("string") - 2, 0) : found.start("string")]
            if "{" in string and _F_STRING.search(before) and _is_open(string):
                return None
    return None if depth else [*starts, len(text)]


def _is_open(string: str) -> bool:
    plain = string.replace("{{", "").replace("}}", "")
    return plain.count("{") != plain.count("}")


# From the entries to all that they reach.


class _Target(NamedTuple):
    """What a name stands for: a part of a module, a module as a whole (no name), or something outside the project.

    `rest` are the attributes that are taken of it.
    """

    module: str
    name: str | None
    rest: tuple[str, ...] = ()
    is_outside: bool = False


class _Walk:
    """What the entries reach, as far as that has been followed."""

    def __init__(
        self,
        entries: Sequence[Entry],
        sources: Mapping[str, str],
        packages: Container[str],
        partial: Container[str],
    ) -> None:
        self._sources = sources
        self._packages = packages
        self._partial = partial
        self._entries = {(entry.module, entry.name) for entry in entries}
        self._modules: dict[str, _Module | str | None] = {}
        self._reached: dict[tuple[str, str], list[_Unit]] = {}
        self._unknown: dict[tuple[str, str], str] = {}
        self._blind: set[tuple[str, str, str]] = set()
        self._loaded: dict[str, list[_Unit]] = {}
        self._targets: dict[tuple[str, _Use], list[_Target]] = {}
        self._left: list[tuple[str, str]] = []
        self._asks_subclasses = False
        self._whole: set[tuple[str, str]] = set()
        for entry in entries:
            self._begin(entry)
        self._follow_all()

    def code(self) -> Code:
        """The fingerprint of what is reached."""
        shown = self._shown()
        parts = {
            f"{shown[module]}.{name}": self._digest(module, name, self._counted(module, units), shown)
            for (module, name), units in self._reached.items()
        }
        parts |= {f"{shown[module]}.{name}": f"{UNKNOWN}: {why}" for (module, name), why in self._unknown.items()}
        parts = dict(sorted(parts.items()))
        is_known = not self._unknown
        blind = sorted(f"{shown[module]}.{name}: {what}" for module, name, what in self._blind)
        return Code(_hash([SCHEME, *map(ascii, parts.items())]) if is_known else UNKNOWN, parts, tuple(blind))

    def _shown(self) -> dict[str, str]:
        """What the modules are called: those of the entries by their last name, if no other one goes by it."""
        with_parts = {module for module, _ in (*self._reached, *self._unknown)}
        shown = {module: module for module in (*self._modules, *with_parts)}
        short = {module: module.rpartition(".")[2] for module, _ in self._entries}
        for module, name in short.items():
            if name not in with_parts - {module} and [*short.values()].count(name) == 1:
                shown[module] = name
        return shown

    # Finding.

    def _module(self, name: str) -> _Module | None:
        """The module of the project; None if there is none, or it cannot be parsed."""
        found = self._source(name)
        return found if isinstance(found, _Module) else None

    def _source(self, name: str) -> _Module | str | None:
        if name not in self._modules:
            text = self._sources.get(name)
            if text is None:
                self._modules[name] = None
            else:
                text = text.removeprefix("\ufeff")
                if "\r" in text:
                    text = text.replace("\r\n", "\n").replace("\r", "\n")
                try:
                    self._modules[name] = _module(text, text in _whole)
                except _DoesNotParse as why:
                    self._modules[name] = str(why)
        return self._modules[name]

    def _absolute(self, module: str, what: _Import) -> str:
        """The full name of the module that an import names."""
        if not what.level:
            return what.module
        up = what.level - (module in self._packages)
        package = module.split(".")[: len(module.split(".")) - up]
        return ".".join([*package, what.module] if what.module else package)

    def _imported(self, module: str, what: _Import, chain: tuple[str, ...], seen: frozenset[Any]) -> list[_Target]:
        absolute = self._absolute(module, what)
        if what.attribute is None:
            return self._of_module(absolute, chain, seen)
        if not what.attribute:
            return self._of_module(absolute.partition(".")[0], chain, seen)
        return self._of_module(absolute, (what.attribute, *chain), seen)

    def _of_module(self, module: str, chain: tuple[str, ...], seen: frozenset[Any]) -> list[_Target]:
        """What a chain of attributes of a module stands for."""
        source = self._source(module)
        if not chain:
            return [_Target(module, None, is_outside=source is None)]
        first, rest = chain[0], chain[1:]
        inner = f"{module}.{first}"
        if isinstance(source, str):
            return [_Target(module, first, rest)]
        if source is None:
            if first != "*" and self._source(inner) is not None:
                return self._of_module(inner, rest, seen)
            return [_Target(module, ".".join(chain), is_outside=True)]
        if first in ("*", "__dict__"):
            return [_Target(module, None, ("*",))]
        found = self._of_name(module, first, rest, seen)
        if found and any(not target.is_outside for target in found):
            return found
        is_module = self._source(inner) is not None
        beneath = self._of_module(inner, rest, seen) if rest or is_module else []
        if is_module or any(not target.is_outside for target in beneath):
            return [*found, *beneath]
        if not found and source.is_bound("__getattr__"):
            return self._of_name(module, "__getattr__", (), seen)
        if not found and module in self._partial:
            return [_Target(module, first, rest)]
        return found or [_Target(module, first, () if first in _BUILTINS else ("?",), is_outside=True)]

    def _of_name(self, module: str, name: str, chain: tuple[str, ...], seen: frozenset[Any]) -> list[_Target]:
        """What a global name of a module stands for: all that it is bound to, in order; nothing if it is not."""
        source = self._module(module)
        if source is None or (module, name) in seen:
            return []
        seen |= {(module, name)}
        own = _Target(module, name, chain)
        bindings: list[tuple[int, _Import | None]] = [*source.imports.get(name, ())]
        bindings += [(unit.line, None) for unit in source.units.get(name, ())]
        found: list[_Target] = []
        for _, what in sorted(bindings, key=lambda each: each[0]):
            found += self._imported(module, what, chain, seen) if what is not None else [own] * (found[-1:] != [own])
        bound_at = source.last.get(name, 0)
        for line, what in source.stars:
            if line > bound_at:
                found += self._of_star(module, what, name, chain, seen)
        return found

    def _of_star(
        self, module: str, what: _Import, name: str, chain: tuple[str, ...], seen: frozenset[Any]
    ) -> list[_Target]:
        star = self._absolute(module, what)
        source = self._module(star)
        if source is None:
            return [] if name.startswith("_") else [_Target(star, f"*.{name}", is_outside=True)]
        listed, is_plain = source.exports()
        if name not in listed if is_plain else name.startswith("_") and "__all__" not in source.units:
            return []
        found = self._of_name(star, name, chain, seen)
        if not found and self._source(f"{star}.{name}") is not None:
            found = self._of_module(f"{star}.{name}", chain, seen)
        if found and "__all__" in source.units and not is_plain:
            found.append(_Target(star, "__all__"))
        return found

    def _stands_for(self, module: str, use: _Use) -> list[_Target]:
        key = (module, use)
        if key not in self._targets:
            if use.name == "*":
                self._targets[key] = [_Target(module, None, ("*",))]
            else:
                self._targets[key] = self._of_name(module, use.name, use.chain, frozenset())
        return self._targets[key]

    def _is_experiment(self, target: _Target) -> bool:
        if target.is_outside or target.name is None:
            return False
        source = self._module(target.module)
        return (target.module, target.name) in self._entries or (
            source is not None and target.name in source.experiments
        )

    # Following.

    def _begin(self, entry: Entry) -> None:
        source = self._source(entry.module)
        self._load(entry.module)
        name = entry.name.partition(".")[0]
        if not isinstance(source, _Module):
            self._unknown[entry.module, entry.name or TOP] = source or "its source is not known"
        elif source.is_bound(name):
            self._reach_all(entry.module, self._of_name(entry.module, name, (), frozenset()))
        elif name:
            found = source.at(entry.line) if entry.line is not None else None
            if found is None:
                self._unknown[entry.module, entry.name] = f"{entry.module} does not define it"
            else:
                self._reach(entry.module, found[0] or name, None if found[0] else [found[1]])

    def _reach(self, module: str, name: str, units: list[_Unit] | None = None) -> None:
        if (module, name) in self._reached or (module, name) in self._unknown:
            return
        source = self._source(module)
        if not isinstance(source, _Module):
            self._unknown[module, name] = str(source)
            return
        if units is None and name not in source.units and module in self._partial:
            self._unknown[module, name] = "its source is not known"
            return
        if units is None:
            units = [*source.units.get(name, ()), *source.changes.get(name, ())]
        self._reached[module, name] = units
        self._left.append((module, name))

    def _reach_all(self, module: str, targets: Iterable[_Target]) -> None:
        for target in targets:
            if target.is_outside:
                continue
            if target.name is not None:
                self._reach(target.module, target.name)
                continue
            source = self._source(target.module)
            self._load(target.module)
            if not isinstance(source, _Module):
                self._unknown[target.module, TOP] = str(source)
                continue
            stars = [_Target(self._absolute(target.module, what), None) for _, what in source.stars]
            self._reach_all(module, [star for star in stars if self._source(star.module) is not None])
            for name in (*source.units, *source.imports):
                if (target.module, name) not in self._whole and name not in source.aside:
                    self._whole.add((target.module, name))
                    self._reach_all(module, self._of_name(target.module, name, (), frozenset()))

    def _load(self, module: str) -> None:
        """Count what happens when a module and the packages around it are loaded."""
        left = [module]
        while left:
            name = left.pop()
            if name.rpartition(".")[0]:
                left.append(name.rpartition(".")[0])
            if name in self._loaded:
                continue
            self._loaded[name] = []
            source = self._source(name)
            if isinstance(source, str):
                self._unknown[name, TOP] = source
            elif source is not None:
                left += self._loads(name, source.loads)
                self._act(name, source)

    def _loads(self, module: str, imports: Iterable[_Import]) -> list[str]:
        names = []
        for what in imports:
            absolute = self._absolute(module, what)
            names.append(absolute)
            if (what.attribute and self._source(absolute) is None) or (what.attribute and absolute in self._packages):
                names.append(f"{absolute}.{what.attribute}")
        return names

    def _act(self, module: str, source: _Module) -> None:
        """Sort what a module does when it is loaded: to its own globals, or to anything else."""
        end = min((line for line, use in source.runs if self._runs(module, use)), default=None)
        for effect in source.effects:
            root = effect.root
            if effect.waits or (end is not None and effect.unit.line >= end):
                continue
            if root is not None and not source.is_bound(root) and effect.is_call and root in _IDLE_BUILTINS:
                continue
            targets = [] if root is None else self._stands_for(module, _Use(root))
            if any(map(self._is_experiment, targets)):
                continue
            if root is None or root not in source.units or root in source.imports:
                self._act_on(module, effect.unit)
            elif not source.is_defined(root):
                if not source.is_fresh(root):
                    self._reach(module, root)
            elif effect.is_call:
                self._act_on(module, effect.unit)

    def _patches(self, module: str, effect: _Effect) -> bool:
        """Whether a statement under the guard changes a global of another module that is reached."""
        for target in self._stands_for(module, _Use(str(effect.root), effect.chain)):
            if not target.is_outside and (target.module, target.name) in self._reached:
                source = self._module(target.module)
                return source is not None and not (effect.is_call and source.is_defined(str(target.name)))
        return False

    def _act_on(self, module: str, unit: _Unit) -> None:
        """Count a statement as one that is run when the module is loaded."""
        top = self._loaded[module]
        if unit not in top:
            top.append(unit)
            self._reached[module, TOP] = top
            self._left.append((module, TOP))

    def _runs(self, module: str, use: _Use | None) -> bool:
        """Whether a call runs an experiment, itself or in the function that it calls; None is one made there."""
        if use is None:
            return True
        if use.chain:
            return any(map(self._is_experiment, self._stands_for(module, _Use(use.name, use.chain[:-1]))))
        for target in self._stands_for(module, use):
            source = None if target.is_outside or target.name is None else self._module(target.module)
            for unit in () if source is None else source.units.get(target.name or "", ()):
                if unit.is_definition and any(
                    self._is_experiment(each) for run in unit.reading().runs for each in self._stands_for(module, run)
                ):
                    return True
        return False

    def _follow_all(self) -> None:
        while self._left:
            while self._left:
                module, name = self._left.pop()
                for unit in self._reached[module, name]:
                    self._follow(module, name, unit)
            for module in list(self._loaded):
                source = self._module(module)
                if source is None:
                    continue
                for hook in source.hooks:
                    if (module, hook.name) not in self._reached and self._registers(module, hook):
                        self._reach(module, hook.name)
                for effect in source.effects:
                    if effect.waits and effect.root in source.imports and self._patches(module, effect):
                        self._act_on(module, effect.unit)

    def _follow(self, module: str, name: str, unit: _Unit) -> None:
        reading = unit.reading()
        if reading.is_too_deep:
            self._unknown[module, name] = "it is nested too deeply to be read"
        self._asks_subclasses |= reading.asks_subclasses
        self._blind.update((module, name, what) for what in reading.blind)
        for each in self._loads(module, reading.imports):
            self._load(each)
        for about in reading.classes:
            if about.hints and not self._is_plain(module, about, frozenset()):
                for use in about.uses:
                    self._reach_all(module, self._stands_for(module, use))
        found = [(use.name, self._stands_for(module, use)) for use in reading.uses]
        found += [(what.module, self._imported(module, what, chain, frozenset())) for what, chain in reading.imported]
        for used, targets in found:
            self._reach_all(module, targets)
            if not unit.inside:
                self._note_blind(module, name, used, targets)

    def _note_blind(self, module: str, part: str, used: str, targets: Sequence[_Target]) -> None:
        """Note what cannot be followed of what a part uses."""
        if not targets and used not in _BUILTINS:
            if module in self._partial:
                self._unknown[module, used] = "its source is not known"
            else:
                self._blind.add((module, part, f"{used} is not defined"))
        if any(target.name is None and "*" in target.rest for target in targets):
            what = "globals" if used == "*" else f"an attribute of {used} by a name that is computed"
            self._blind.add((module, part, what))
        elif targets and all(target.is_outside and target.rest == ("?",) for target in targets):
            self._blind.add((module, part, f"{used}.{targets[0].name} is not defined"))

    def _is_plain(self, module: str, about: _Class, seen: frozenset[int]) -> bool:
        """Whether the annotations in a class's body mean nothing to Python."""
        if not about.is_plain or id(about) in seen:
            return about.is_plain
        for base in about.bases:
            if base is None:
                return False
            targets = self._stands_for(module, base)
            if not targets and (base.chain or base.name not in _PLAIN_BASES):
                return False
            for target in targets:
                if target.is_outside or target.name is None:
                    if (target.name or "").rpartition(".")[2] not in _PLAIN_BASES:
                        return False
                    continue
                source = self._module(target.module)
                for unit in () if source is None else source.units.get(target.name, ()):
                    classes = unit.reading().classes
                    if not classes or not self._is_plain(target.module, classes[0], seen | {id(about)}):
                        return False
        return True

    # What registers itself.

    def _registers(self, module: str, hook: _Hook) -> bool:
        """Whether a function or class that nothing names is entered where it is defined into something reached."""
        for target in self._stands_for(module, hook.by):
            if self._is_experiment(target) and hook.by.chain[-1:] in _ASIDE:
                continue
            key = (target.module, target.name or "")
            if target.is_outside:
                if hook.kind == "decorator" and _ACTS.match((hook.by.chain or (hook.by.name,))[-1]):
                    return True
            elif hook.kind == "decorator":
                if any(each in self._reached for each in self._kept_by(key, hook.levels, bool(target.rest), set())):
                    return True
            elif key in self._reached and (
                hook.kind == "metaclass" or self._asks_subclasses or self._knows_subclasses(key, frozenset())
            ):
                return True
        return False

    def _knows_subclasses(self, key: tuple[str, str], seen: frozenset[Any]) -> bool:
        """Whether a class, or one that it is derived from, is told of each class that is derived from it."""
        source = self._module(key[0])
        if source is None or key in seen:
            return False
        if any("(FunctionDef __init_subclass__" in unit.reading().tokens for unit in source.units.get(key[1], ())):
            return True
        above = [
            (hook.kind, (target.module, target.name or ""))
            for hook in source.hooks
            if hook.name == key[1] and hook.kind != "decorator"
            for target in self._stands_for(key[0], hook.by)
            if not target.is_outside
        ]
        return any(kind == "metaclass" or self._knows_subclasses(each, seen | {key}) for kind, each in above)

    def _kept_by(
        self, key: tuple[str, str], levels: int, is_of_it: bool, seen: set[tuple[str, str]]
    ) -> Iterator[tuple[str, str]]:
        """The globals whose values a decorator may change where it is used."""
        module, name = key
        source = self._module(module)
        if source is None or not source.units.get(name):
            return
        is_value = not source.is_defined(name)
        if (is_value and not source.is_constant(name)) or is_of_it:
            yield key
        if key in seen:
            return
        seen.add(key)
        for unit in source.units[name]:
            for use, depth in unit.reading().uses.items():
                for target in self._stands_for(module, use) if depth <= levels else ():
                    if not target.is_outside and target.name is not None:
                        yield from self._kept_by((target.module, target.name), 1, bool(target.rest), seen)

    # Digests.

    def _counted(self, module: str, units: Iterable[_Unit]) -> list[_Unit]:
        """The statements but for those of a function that counts itself."""
        return [unit for unit in units if (module, unit.inside) not in self._reached]

    def _digest(self, module: str, name: str, units: Iterable[_Unit], shown: Mapping[str, str]) -> str:
        tokens = [SCHEME]
        for unit in sorted(dict.fromkeys(units), key=lambda unit: unit.line):
            tokens.append("unit")
            tokens += self._tokens(module, name, unit, shown)
        return _hash(tokens)

    def _tokens(self, module: str, name: str, unit: _Unit, shown: Mapping[str, str]) -> list[str]:
        reading = unit.reading()
        tokens = list(reading.tokens)
        uses = dict(reading.uses)
        for about in reading.classes:
            if about.hints and not self._is_plain(module, about, frozenset()):
                tokens += ["hints", *about.hints]
                uses |= about.uses
        named = [
            (".".join((use.name, *use.chain)), self._stands_for(module, use), depth) for use, depth in uses.items()
        ]
        named += [
            (".".join((what.module, what.attribute or "", *chain)), self._imported(module, what, chain, frozenset()), 1)
            for (what, chain) in reading.imported
        ]
        for said, targets, depth in sorted(named, key=lambda each: each[0]):
            for target in targets:
                label = f"{shown.get(target.module, target.module)}.{target.name or '*'}"
                tokens.append(f"{said}: {label}{self._moment(target, module, unit, depth)}")
        if not unit.is_definition and reading.has_call and name != TOP:
            before = sum(each.line < unit.line for each in self._loaded.get(module, ()))
            if before:
                tokens.append(f"after {before}")
        return tokens

    def _moment(self, target: _Target, module: str, unit: _Unit, depth: int) -> str:
        """Which value of a global of several a statement meets that uses it there and then."""
        if depth or target.is_outside or target.module != module or target.name is None:
            return ""
        source = self._module(module)
        values = () if source is None else self._reached.get((module, target.name), ())
        if source is None or source.is_defined(target.name) or len(values) < 2:
            return ""
        return f"@{sum(each.line < unit.line for each in values)}"


def _hash(tokens: Iterable[str]) -> str:
    return sha256("\n".join(tokens).encode("utf-8", "surrogatepass")).hexdigest()[:16]
