"""What continuous integration runs."""

from __future__ import annotations

import re

from helpers.commandline import ROOT


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    commands = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands
    return [line.replace("$(BIN)/", "").strip() for line in commands[1].splitlines()]


def test_continuous_integration_ran_tests_alone() -> None:
    """Format, lint and types first, the same as in `make check`."""
    program = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in program if line.startswith("make ")] == ["make lint", "make test"]
    assert recipe("lint") == ["ruff format --check .", "ruff check .", "pyright"]
    assert "check: lint  ##" in (ROOT / "Makefile").read_text()
