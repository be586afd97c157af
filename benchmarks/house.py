"""Counts how the package is written: files, lines, functions, importers, names that the style gives up.

    python benchmarks/house.py [folder]

`folder` holds a checkout, this one's or an older one's; nothing of it is imported or run. One line per number, and as
the last line all of them as JSON.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import math
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "lis"
NAMES = ("found", "own", "place", "shown", "wanted", "kept")
"""Identifiers that the style gives up."""

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """A module of the package that a file imports."""

    line: int
    module: str


def module_of(file: Path, root: Path) -> str:
    """Name of the module in `file`, as it is imported with `root` on the path.

    Example:
        >>> module_of(Path("a/lis/units/unit.py"), Path("a")), module_of(Path("a/lis/units/__init__.py"), Path("a"))
        ('lis.units.unit', 'lis.units')
    """
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package below `root`, by name, sorted."""
    return {module_of(file, root): file for file in sorted((root / PACKAGE).rglob("*.py"))}


def imports(source: str, module: str, known: Sequence[str] | dict[str, Any], package: bool = False) -> list[Import]:
    """What a module imports of the package, wherever the statement stands: at the top, in a function, under `if`.

    Args:
        source: text of the module.
        module: its name.
        known: names of all modules: `from a import b` means the module `a.b` where there is one, else `a`.
        package: whether the source is that of an `__init__.py`, from which relative imports begin.
    """
    base = module.split(".") if package else module.split(".")[:-1]
    result: list[Import] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            result += [Import(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            full = [f"{origin}.{alias.name}" for alias in node.names]
            result += [Import(node.lineno, name if name in known else origin) for name in full]
    return sorted(i for i in set(result) if i.module.split(".")[0] == PACKAGE)


def code_lines(source: str) -> int:
    """Lines that are neither blank nor only comment or docstring.

    Example:
        >>> code_lines('"What it does."\\n\\nx = 1  # why\\n# more\\ny = (\\n    2\\n)\\n')
        4
    """
    written: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            written.update(range(token.start[0], token.end[0] + 1))
    for text in _docstrings(ast.parse(source)):
        written.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return len(written)


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """Strings that stand as statements of their own: docstrings, and those below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def body_lines(source: str) -> list[int]:
    """Lines of every function's body, from the first statement below the docstring to the last, comments included.

    0 where there is only a docstring.

    Example:
        >>> body_lines('def f():\\n    "What it does."\\n    a = 1\\n    return a\\n')
        [2]
    """
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _Function)]
    return [_body(function) for function in functions]


def _body(function: _Function) -> int:
    statements = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def identifiers(source: str) -> Counter[str]:
    """How often each name is written: variables, attributes, parameters, keywords, functions, classes, imports."""
    names = Counter[str]()
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                names[name] += 1
    return names


def single_importers(root: Path) -> list[str]:
    """Modules that exactly one other file of the package imports; what only a configuration or test names has none."""
    known = modules(root)
    importers: dict[str, set[str]] = {name: set() for name in known}
    for name, file in known.items():
        for _, module in imports(file.read_text(), name, known, file.name == "__init__.py"):
            if module in importers and module != name:
                importers[module].add(name)
    return [name for name, files in importers.items() if len(files) == 1]


def house(root: Path) -> dict[str, float]:
    """All numbers of the checkout at `root`.

    Raises:
        ValueError: there is no package.
    """
    sources = [file.read_text() for file in modules(root).values()]
    if not sources:
        raise ValueError(f"{root} has no {PACKAGE}/*.py: expected the folder of a checkout")
    lines, bodies = [len(source.splitlines()) for source in sources], [n for s in sources for n in body_lines(s)]
    names = sum(map(identifiers, sources), Counter[str]())
    numbers: dict[str, float] = {
        "files": len(sources),
        "lines": sum(lines),
        "lines of code": sum(map(code_lines, sources)),
        "lines per file, median": statistics.median(lines),
        "lines per file, p90": percentile(lines, 0.9),
        "functions": len(bodies),
        "lines per body, median": statistics.median(bodies),
        "lines per body, p90": percentile(bodies, 0.9),
        "lines per body, most": max(bodies),
        "files with one importer": len(single_importers(root)),
    }
    return numbers | {f"identifier {name}": names[name] for name in NAMES}


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of the values does not exceed.

    Example:
        >>> percentile(range(1, 11), 0.9)
        9
    """
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def main() -> None:
    """Print the numbers of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    numbers = house(parser.parse_args().folder.resolve())
    for name, number in numbers.items():
        print(f"{name:24} {number:8,g}")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
