"""What `benchmarks/house.py` counts, on a package of a few lines."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commandline import ROOT

from benchmarks import house

DOCUMENTED = '''"""Says
what."""

from lis import b


def f(found):
    """What."""
    # why
    return b, found
'''
LAZY = """def g():
    from lis.a import f
    from ..b import own
    from . import e

    return f, own, e
"""
FILES = {
    "__init__.py": "",
    "a.py": DOCUMENTED,
    "b.py": "import os\n\nplace = own = os\nown.kept = 2\n",
    "c/__init__.py": "",
    "c/d.py": LAZY,
    "c/e.py": "def g(): ...\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "lis" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lis" / name).write_text(text)
    return tmp_path


def test_all_numbers_of_a_small_package(checkout: Path) -> None:
    assert house.house(checkout) == {
        "files": 6,
        "lines": 21,
        "lines of code": 3 + 3 + 5 + 1,
        "lines per file, median": 2.5,
        "lines per file, p90": 10,
        "functions": 3,
        "lines per body, median": 1,
        "lines per body, p90": 5,
        "lines per body, most": 5,
        "files with one importer": 2,
        "identifier found": 2,
        "identifier own": 4,
        "identifier place": 1,
        "identifier shown": 0,
        "identifier wanted": 0,
        "identifier kept": 1,
    }
    assert house.single_importers(checkout) == ["lis.a", "lis.c.e"]


def test_imports_in_functions_and_relative_ones_count(checkout: Path) -> None:
    known = house.modules(checkout)
    assert house.imports(LAZY, "lis.c.d", known) == [(2, "lis.a"), (3, "lis.b"), (4, "lis.c.e")]
    assert house.imports("from .d import g", "lis.c", known, package=True) == [(1, "lis.c.d")]


def test_the_command_counts_any_checkout(checkout: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "house.py", checkout]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert json.loads(lines[-1]) == house.house(checkout) and len(lines) == 17


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the folder of a checkout"):
        house.house(tmp_path)


def test_the_examples_are_right() -> None:
    assert doctest.testmod(house).failed == 0
