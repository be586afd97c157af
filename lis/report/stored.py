"""Pages in the store: what was drawn of the same artifacts, settings and program is copied, and not drawn again."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lis
from lis.distributed.identity import identity
from lis.report.html import Embedded, Number, Rendered
from lis.report.section import Table
from lis.store import Artifact, Draft, Recipe, Store

REPORT, COMPARISON = "report", "comparison"
"""Names of both in a store."""
TABLES = "tables"
"""Folder of a run with a folder of tables per stage."""
VERSION = 1
"""Of both; raised when the same follows from other code than that of `lis`."""
_LIBRARIES = ("matplotlib", "numpy", "pandas", "scikit-learn", "torch")
"""Packages that a page names, or is drawn by."""
_SECTIONS = "sections"


def stored_sections(
    store: Store, reports: Sequence[str], out: Path, show: Callable[[Path], list[Rendered]]
) -> tuple[list[Rendered], Artifact | None]:
    """The sections of a comparison with their figures: drawn now, or copied from the store.

    Args:
        store: of the sweep.
        reports: keys of the reports that are compared, in their order.
        out: an empty folder, which gets the figures.
        show: draws the sections into a folder.

    Returns:
        The sections, and the comparison in the store; None of that where a section failed.
    """
    drawn: list[Rendered] = []

    def draw_now(draft: Draft) -> None:
        drawn.extend(show(out))
        if any(section.error for section in drawn):
            raise _NotWhole
        fill(draft, out)
        draft.json(_SECTIONS, {"sections": [_as_json(section) for section in drawn]})

    try:
        comparison = store.make(Recipe(COMPARISON, VERSION, {"program": program()}, tuple(reports)), draw_now)
    except _NotWhole:
        return drawn, None
    if drawn:
        return drawn, comparison
    copy(comparison.path, out, [name for name in comparison.manifest["files"] if name != f"{_SECTIONS}.json"])
    return [_revived(section) for section in comparison.json(_SECTIONS)["sections"]], comparison


class _NotWhole(Exception):
    """A section failed, so that the store gets none."""


@cache
def program() -> dict[str, str]:
    """Versions of what draws: of packages, and digests of the sources of `lis` and of its templates."""
    digest = hashlib.sha256()
    for file in sorted((Path(__file__).parent / "templates").iterdir()):
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    return versions | {"lis": lis.__version__, "sources": identity().sources, "templates": digest.hexdigest()[:8]}


def fill(draft: Draft, folder: Path) -> None:
    """Take what was drawn into a draft, but no tables, which their stages hold."""
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    copy(folder, draft.path, [str(name) for name in files if name.parts[0] != TABLES])


def copy(folder: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files by their names. No links: whoever edits a page in the folder of a run would change all others."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)


def _as_json(section: Rendered) -> dict[str, Any]:
    """A section as JSON holds it."""
    texts = asdict(section)
    return texts | {"tables": [table | {"best": sorted(table["best"])} for table in texts["tables"]]}


def _revived(section: Mapping[str, Any]) -> Rendered:
    """A section as it was before it was written as JSON."""
    figures = [Embedded(**figure) for figure in section["figures"]]
    tables = [Table(**table | {"best": frozenset(map(tuple, table["best"]))}) for table in section["tables"]]
    numbers = [Number(**number) for number in section["numbers"]]
    return Rendered(**{**section, "figures": figures, "tables": tables, "numbers": numbers})
