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
from bisect import bisect_left
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
    "abs all any bool dict enumerate float frozenset int len list max min print range repr reversed round set sorted"
    " str sum tuple zip".split()
)
_IDLE_METHODS = frozenset(["critical", "debug", "error", "exception", "info", "log", "warn", "warning"])

#: What a notebook or script does with an experiment when it is run; a worker that loads the script goes no further.
_RUNS = frozenset(["plan", "results", "run"])

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
        self.is_maker = False
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
        self._node(node)
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
            fields = _FIELDS[kind]
        except KeyError:
            fields = _FIELDS[kind] = tuple(name for name in kind._fields if name not in _NOT_COUNTED)
        tokens.append(f"({kind.__name__}")
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
                special = _SPECIAL.get(each.__class__)
                if special is None:
                    self._plain(each)
                else:
                    special(self, each)
            else:  # a name; None where a keyword has no default, or before ** in a dict
                tokens.append(f"={each}")
        tokens.append("]")

    def _constant(self, node: ast.Constant) -> None:
        self.tokens.append(_constant_token(node.value))

    def _joined(self, node: ast.JoinedStr) -> None:
        """An f-string: how its text is cut into constants depends on the version of Python."""
        parts = _joined_parts(node)
        if all(isinstance(part, str) for part in parts):
            self.tokens.append(_constant_token("".join(map(str, parts))))
            return
        self.tokens.append("(JoinedStr")
        for part in parts:
            if isinstance(part, str):
                self.tokens.append(_constant_token(part))
            else:
                self.tokens.append(f"(FormattedValue {part.conversion}")
                self._node(part.value)
                if part.format_spec is not None and _joined_parts(part.format_spec):
                    self.tokens.append("format_spec")
                    self._node(part.format_spec)
                self.tokens.append(")")
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

    def _walrus(self, node: ast.NamedExpr) -> None:
        inner, self._scope = self._scope, self._not_comprehension()
        self.tokens.append("(NamedExpr")
        self._node(node.target)
        self._scope = inner
        self._node(node.value)
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
            if isinstance(base, ast.Name) and (base.id, *chain) in self._makers:
                self.is_maker = True
            else:
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
        parameters = {each.name for each in getattr(node, "type_params", ())}
        if parameters:
            self._enter("comprehension")
            self._scope.bound |= parameters
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
        if parameters:
            self._leave()
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
        if chain and last in _RUNS:
            self.runs.append(_Use(base.id, chain[:-1]))
        if last in (_BY_STRING if not chain else _MODULE_BY_STRING) and self._by_string(node, last):
            return
        if (base.id, *chain) in self._makers:
            self.is_maker = True
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
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
_SPECIAL: dict[type[ast.AST], Any] = {
    ast.AnnAssign: _Reading._hint,
    ast.AsyncFunctionDef: _Reading._function,
    ast.Attribute: _Reading._attribute,
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
    return f"{type(value).__name__} {ascii(value)}"


def _joined_parts(node: Any) -> list[Any]:
    """The texts, joined where they touch, and the values of an f-string."""
    parts: list[Any] = []
    for each in node.values if isinstance(node, ast.JoinedStr) else [node]:
        new = _joined_parts(each) if isinstance(each, ast.JoinedStr) else [getattr(each, "value", each)]
        if isinstance(each, ast.FormattedValue):
            new = [each]
        for part in new:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            elif part != "":
                parts.append(part)
    return parts


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
