"""Reads what modules declare without importing what they compute with: definition by definition, as each is asked for.

A module of stages imports torch and pandas, which takes seconds; its `@stage(…)`, the schema of its settings and its
`problems` need neither. Here a file is parsed, and only those of its statements are evaluated that declare something or
that such a statement uses. A name of another module of lis is evaluated there in the same way; modules of the standard
library, of Hydra and OmegaConf, and those of lis that hold the declarations, are imported.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
"""Of the packages: `lis.units.tuning` lies in `lis/units/tuning.py` below."""
_IMPORTED = ("lis.config", "lis.names", "lis.stage", "lis.streams")
"""Modules of lis that are imported: what declarations are made with, and entered into."""
_LIGHT = ("hydra", "omegaconf")
_DECLARES = "stage"
"""What declares: `@stage(…)`, `@search_stage(…)`, `train_pairs = pairs_stage(…)`."""
_DECORATED = re.compile(rf"^@.*{_DECLARES}\(", re.MULTILINE)
_BLOCK = re.compile(
    r"^(?:@.*\n(?:[ \t)\]}].*\n|\n)*)*(?:async def|def|class) (?P<name>\w+)[(:\[].*\n(?:[ \t)\]}#].*\n|\n)*",
    re.MULTILINE,
)
"""A function or class with its decorators: what follows stands further right, closes a bracket, or is a comment."""
_ANNOTATIONS = __future__.annotations.compiler_flag


class NotLight(ImportError):
    """A declaration uses what takes long to import."""


class Definitions(dict[str, Any]):
    """The names of a module; each is evaluated when it is asked for.

    Functions that are defined here run with it as their globals, and ask for what they use in the same way.

    Args:
        module: its dotted name.
        file: where it is written.

    Raises:
        ImportError: the file imports all names of a module at once.
        SyntaxError: the file cannot be parsed.
        NotLight: a name is asked for that is imported from elsewhere than the standard library, Hydra and OmegaConf.
    """

    def __init__(self, module: str, file: Path) -> None:
        super().__init__(__name__=module, __file__=str(file), __builtins__=builtins)
        self.file = file
        self._all = _statements(file)
        self._evaluated: set[int] = set()
        self._statements: dict[str, list[ast.stmt | Block]] = {}
        for statement in self._all:
            for name in _defined(statement):
                self._statements.setdefault(name, []).append(statement)
        if star := self._statements.get("*"):
            line = next(each.lineno for each in star if isinstance(each, ast.ImportFrom))
            raise self._refused(line, "all names of a module are imported, expected each by its name")

    def __missing__(self, name: str) -> Any:
        for each in self._statements.get(name, ()):
            if id(each) in self._evaluated and not isinstance(each, (ast.Import, ast.ImportFrom)):
                continue  # it changes several names, or is under way
            self._evaluated.add(id(each))
            statement = each.parsed if isinstance(each, Block) else each
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self[name] = self._imported(statement, name)
            else:
                try:
                    self._evaluate(statement)
                except NotLight:  # and so it is whenever it is asked for
                    self._evaluated.discard(id(each))
                    raise
        if name not in self and self.file.name == "__init__.py":
            self[name] = _submodule(self["__name__"], name)
        if name not in self:
            raise KeyError(name)
        return self[name]

    def declare(self) -> None:
        """Evaluate every statement that declares a stage: one with the decorator or value `stage(…)` or `…_stage(…)`.

        Raises:
            ImportError: a stage is declared in another way; a name is not defined.
            NotLight: a declaration uses what takes long to import.
        """
        declaring = [statement for statement in self._all if _declares(statement)]
        for statement in self._all:
            if statement not in declaring and (line := _hidden(statement)):
                raise self._refused(
                    line,
                    "a stage is declared where nobody reads it before a run: expected @stage(…) at the left margin, "
                    "under that name, or of a function NAME_stage that returns it: @NAME_stage(…), x = NAME_stage(…)",
                )
        for statement in declaring:
            for name in _defined(statement):
                self[name]

    def _refused(self, line: int, why: str) -> ImportError:
        return ImportError(f"{self.file}:{line}: {why}")

    def _evaluate(self, statement: ast.stmt) -> None:
        flags = _ANNOTATIONS
        if isinstance(statement, ast.FunctionDef) and _declares(statement):
            described = isinstance(statement.body[0], ast.Expr)
            statement.body = statement.body[:1] if described else [ast.Pass()]  # it is not run
            ast.fix_missing_locations(statement)
        if isinstance(statement, ast.ClassDef):
            flags = 0  # a schema's annotations are its types
            _strip_methods(statement)
            for name in _read(statement.body):  # which look for globals without asking for those that are missing
                if name in self._statements:
                    self[name]
        try:
            exec(compile(ast.Module([statement], []), self.file, "exec", flags, True), self)
        except NameError as error:
            why = f"{error}: expected one that is defined at the left margin"
            raise self._refused(statement.lineno, why) from error
        except NotLight as error:
            if not isinstance(statement, ast.FunctionDef) or _declares(statement):
                raise
            self[statement.name] = _later(error)  # its decorators: nothing is wrong while nobody calls it

    def _imported(self, statement: ast.Import | ast.ImportFrom, name: str) -> Any:
        (alias,) = (each for each in statement.names if _bound(each) == name)
        module = alias.name if isinstance(statement, ast.Import) else _absolute(statement, self["__name__"], self.file)
        if _is_light(module):
            return _real(statement, module, alias)
        if module.partition(".")[0] != "lis":
            raise NotLight(
                f"{self.file}:{statement.lineno}: {name} is used where a stage is declared: its settings, its "
                f"`problems` and the arguments of its decorator are read without importing {module}, which takes long; "
                f"import {name} inside the function that uses it, or let the declaration do without"
            )
        if isinstance(statement, ast.Import):
            return lazy(module) if alias.asname else lazy("lis")
        try:
            return definitions(module)[alias.name]
        except (KeyError, FileNotFoundError):
            raise ImportError(f"{self.file}:{statement.lineno}: {module} defines no {alias.name}") from None


def _strip_methods(schema: ast.ClassDef) -> None:
    """Take the annotations of its methods away, whose types are not imported."""
    for each in ast.walk(schema):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            each.returns = None
        elif isinstance(each, ast.arg):
            each.annotation = None


@cache
def definitions(module: str) -> Definitions:
    """The definitions of a module of lis."""
    folder = ROOT / module.replace(".", "/")
    return Definitions(module, folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py"))


@cache
def lazy(name: str) -> ModuleType:
    """A module of lis whose attributes are evaluated when they are asked for."""

    def attribute(attribute: str) -> Any:
        try:
            return definitions(name)[attribute]
        except KeyError:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}") from None

    module = ModuleType(name)
    module.__getattr__ = attribute  # pyright: ignore[reportAttributeAccessIssue]
    return module


def forget() -> None:
    """Let go of all definitions, before the modules themselves are imported."""
    definitions.cache_clear()
    lazy.cache_clear()


def _submodule(package: str, name: str) -> ModuleType:
    """What `from package import name` gives where the package defines no such name."""
    folder = ROOT / package.replace(".", "/")
    if (folder / name).is_dir() or (folder / f"{name}.py").is_file():
        if _is_light(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        return lazy(f"{package}.{name}")
    raise KeyError(name)


def _later(error: NotLight) -> Any:
    def missing(*_: object, **__: object) -> Any:
        raise error

    return missing


def _real(statement: ast.Import | ast.ImportFrom, module: str, alias: ast.alias) -> Any:
    result = import_module(module)
    if isinstance(statement, ast.Import):
        return result if alias.asname else sys.modules[module.partition(".")[0]]
    try:
        return getattr(result, alias.name)
    except AttributeError:
        return import_module(f"{module}.{alias.name}")


def _is_light(module: str) -> bool:
    top = module.partition(".")[0]
    if top == "lis":
        return any(module == each or module.startswith(f"{each}.") for each in _IMPORTED)
    return top in _LIGHT or top in sys.stdlib_module_names


def _absolute(statement: ast.ImportFrom, module: str, file: Path) -> str:
    """The name of the module that a statement imports from."""
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    parents = parts[: len(parts) - statement.level + (file.name == "__init__.py")]
    return ".".join([*parents, *([statement.module] if statement.module else [])])


@dataclass(frozen=True)
class Block:
    """A function or a class that is parsed when it is asked for: most of a file, and hardly any is."""

    name: str
    text: str
    line: int
    file: Path
    is_in_text: bool
    """Whether it begins or ends inside of a text over several lines, which looks like code."""

    @cached_property
    def parsed(self) -> ast.stmt:
        """The statement, which knows its lines."""
        return ast.parse("\n" * self.line + self.text, str(self.file)).body[0]


def _statements(file: Path) -> list[ast.stmt | Block]:
    """The statements of a module; functions and classes as blocks where the file can be cut into these."""
    text = file.read_text("utf-8-sig")
    blocks = list(_blocks(text, file))
    if any(block.is_in_text for block in blocks):
        return [*_outside_types(ast.parse(text, str(file)).body)]
    rest = text.splitlines(keepends=True)
    for block in blocks:
        count = block.text.count("\n")
        rest[block.line : block.line + count] = ["\n"] * count
    try:
        return [*blocks, *_outside_types(ast.parse("".join(rest), str(file)).body)]
    except SyntaxError:  # a text over several lines looks like code
        return [*_outside_types(ast.parse(text, str(file)).body)]


def _blocks(text: str, file: Path) -> Iterator[Block]:
    """The functions and classes at the left margin, each with its decorators."""
    line = quotes = end = 0
    for match in _BLOCK.finditer(text):
        between = text[end : match.start()]
        line += between.count("\n")
        before = quotes + _quotes(between)
        quotes = before + _quotes(match[0])
        yield Block(match["name"], match[0], line, file, is_in_text=before % 2 > 0 or quotes % 2 > 0)
        line += match[0].count("\n")
        end = match.end()


def _quotes(text: str) -> int:
    """How often texts over several lines begin or end."""
    return text.count('"""') + text.count("'''")


def _outside_types(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements; of those that are for types alone, only what stands beside them."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            yield from _outside_types(statement.orelse)
        else:
            yield statement


def _defined(statement: ast.stmt | Block) -> list[str]:
    """The names that a statement defines or changes: `COUNT = 3`, `LIMITS["n"] = 3`, `WORDS.append("b")`."""
    if isinstance(statement, (Block, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [_bound(alias) for alias in statement.names]
    names = [name for node in ast.walk(statement) if (name := _changed(node))]
    return list(dict.fromkeys(names))


def _changed(node: ast.AST) -> str | None:
    """The name that a part of a statement binds, or whose value it may change."""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        inner: ast.AST = node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        inner = node.value.func
    else:
        return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None
    while isinstance(inner, (ast.Subscript, ast.Attribute, ast.Call)):
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return inner.id if isinstance(inner, ast.Name) else None


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _read(nodes: list[Any]) -> Iterator[str]:
    """The names that the body of a class reads itself: its methods do so when they are called."""
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _read([*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)])
        elif isinstance(node, ast.Lambda):
            yield from _read([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        else:
            yield from _read([*ast.iter_child_nodes(node)])


def _declares(statement: ast.stmt | Block) -> bool:
    """Whether a statement is decorated with, or assigns, the call of what declares."""
    if isinstance(statement, Block):
        return _DECORATED.search(statement.text) is not None and _declares(statement.parsed)
    calls: list[ast.expr | None] = []
    if isinstance(statement, ast.FunctionDef):
        calls += statement.decorator_list
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        calls.append(statement.value)
    return any(isinstance(call, ast.Call) and _is_declaring(_last_name(call.func)) for call in calls)


def _hidden(statement: ast.stmt | Block) -> int:
    """The line where a statement that declares no stage calls what does, or gives it another name; 0: nowhere."""
    if isinstance(statement, (Block, ast.FunctionDef)) and _is_declaring(statement.name):
        return 0  # `…_stage`, which others call
    if isinstance(statement, Block):
        if f"{_DECLARES}(" not in statement.text:
            return 0
        statement = statement.parsed
    if isinstance(statement, ast.ImportFrom) and statement.module not in (None, "lis"):
        renamed = (each for each in statement.names if _is_declaring(each.name) and not _is_declaring(_bound(each)))
        return statement.lineno if any(renamed) else 0
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, (ast.Name, ast.Attribute)):
        return statement.lineno if _is_declaring(_last_name(statement.value)) else 0
    calls = (node for node in ast.walk(statement) if isinstance(node, ast.Call))
    return next((call.lineno for call in calls if _is_declaring(_last_name(call.func))), 0)


def _is_declaring(name: str) -> bool:
    """Whether it is `stage` or `…_stage`."""
    return name == _DECLARES or name.endswith(f"_{_DECLARES}")


def _last_name(node: ast.expr) -> str:
    """Of `module.name` the name; nothing where an expression is neither."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
