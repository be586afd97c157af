"""Imports run one way: every import of `lis` against the lines that ARCHITECTURE.md draws.

Every `import` and `from … import` counts, wherever it stands: at the top, inside a function, under `TYPE_CHECKING`.
What a configuration names (`_target_`) is no import.
"""

from __future__ import annotations

import re

import pytest
from helpers.commandline import ROOT

from benchmarks.house import imports, modules

DRAWN = (ROOT / "ARCHITECTURE.md").read_text()


def layers(text: str) -> dict[str, int]:
    """Height of every package and module that the lines of the drawing name, 0 the lowest."""
    block = re.search(r"^Imports run one way.*?^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "ARCHITECTURE.md draws no lines of imports"
    lines = re.sub(r",\n +", ", ", block[1]).splitlines()
    names = [(name, -height) for height, line in enumerate(lines, 1 - len(lines)) for name in line.split(", ")]
    assert len(dict(names)) == len(names), "a name stands twice in ARCHITECTURE.md's lines of imports"
    return dict(names)


def unit_of(module: str) -> str:
    """What a module counts as in the drawing: its package, or itself; a command line as `run`."""
    parts = module.split(".")
    return "run" if parts[-1] == "__main__" else parts[1]


def offences(sources: dict[str, str], heights: dict[str, int], packages: frozenset[str] = frozenset()) -> list[str]:
    """A line for every import that does not run downwards, and every file of an undrawn unit.

    Args:
        sources: text by module name.
        heights: of `layers`.
        packages: modules that are an `__init__.py`.
    """
    result = []
    for module, source in sources.items():
        if module == "lis":
            result += [
                f"{module}:{line}: imports {other}: expected nothing but lis.api"
                for line, other in imports(source, module, sources)
                if unit_of(other) != "api"
            ]
            continue
        if (unit := unit_of(module)) not in heights:
            result.append(f"{module}: ARCHITECTURE.md does not draw {unit!r}")
            continue
        for line, other in imports(source, module, sources, module in packages):
            target = unit_of(other) if other != "lis" else unit
            if target != unit and heights.get(target, 0) >= heights[unit]:
                result.append(
                    f"{module}:{line}: imports {other}, but {unit!r} is not above {target!r} in ARCHITECTURE.md"
                )
    return result


def test_every_import_runs_downwards() -> None:
    """`labels` and `segmentation` imported each other, `types` imported `matching`, `generators` `classifiers`."""
    files = modules(ROOT)
    packages = frozenset(name for name, file in files.items() if file.name == "__init__.py")
    assert not offences({name: file.read_text() for name, file in files.items()}, layers(DRAWN), packages)


def test_everything_that_is_drawn_exists() -> None:
    assert set(layers(DRAWN)) == {unit_of(name) for name in modules(ROOT) if name != "lis"}


LINES = "Imports run one way:\n\n```\napi, run\nhigh, beside\nlow,\n  wrapped\n```\n"


@pytest.mark.parametrize(
    ("module", "source", "offence"),
    [
        ("lis.low", "import torch\nfrom lis.high.a import f\n", "lis.low:2: imports lis.high.a"),
        ("lis.low", "import lis.high.a\n", "lis.low:1: imports lis.high.a"),
        ("lis.low", "from lis import high\n", "lis.low:1: imports lis.high"),
        ("lis.low", "def f():\n    from lis.high.a import g\n    return g\n", "lis.low:2: imports lis.high.a"),
        ("lis.low", "if TYPE_CHECKING:\n    from lis.high import a\n", "lis.low:2: imports lis.high.a"),
        (
            "lis.high.b",
            "from ..beside import f\n",
            "lis.high.b:1: imports lis.beside, but 'high' is not above 'beside'",
        ),
        ("lis.high.b", "from lis.run import main\n", "lis.high.b:1: imports lis.run"),
        ("lis.high.b", "from lis.low import f\nfrom lis.high import a\nfrom lis import __version__\n", None),
        ("lis.high.__main__", "from lis.beside import f\n", None),
        ("lis.wrapped", "from lis import __version__\n", None),
        ("lis.wrapped", "from lis.low import f\n", "lis.wrapped:1: imports lis.low"),
        ("lis.new", "", "lis.new: ARCHITECTURE.md does not draw 'new'"),
        ("lis", "from lis.low import f\n", "lis:1: imports lis.low: expected nothing but lis.api"),
        ("lis", "from lis.api import study\n", None),
    ],
)
def test_an_import_against_the_drawing_is_named_with_its_line(module: str, source: str, offence: str | None) -> None:
    known = dict.fromkeys(
        ("lis", "lis.run", "lis.high", "lis.high.a", "lis.beside", "lis.low", "lis.wrapped", "lis.api"), ""
    )
    result = offences(known | {module: source}, layers(LINES))
    assert len(result) == (offence is not None) and all(line.startswith(offence or "") for line in result)


def test_a_circle_of_two_on_one_line_is_named_from_both_sides() -> None:
    sources = {"lis.high.a": "from lis.beside import f\n", "lis.beside": "def g():\n    import lis.high.a\n"}
    result = offences(sources, layers(LINES))
    assert [line.split(": imports")[0] for line in result] == ["lis.high.a:1", "lis.beside:2"]


def test_a_name_that_is_drawn_twice_is_refused() -> None:
    with pytest.raises(AssertionError, match="stands twice"):
        layers(LINES.replace("beside", "low"))
