"""The folder of a run or sweep holds what the last one there wrote: it is recorded, and the next one removes it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lis.lock import answers

FILES = "files.json"
"""The record: names of files, relative to the folder."""
_DRAFT = ".draft-"


def record(out: Path, files: Iterable[Path]) -> None:
    """Note, before they are written, files beneath `out` as those of the run; they are removed by `clear`."""
    names = {str(file.relative_to(out)) for file in files}
    draft = out / f"{FILES}{_DRAFT}{os.getpid()}"
    draft.write_text(json.dumps(sorted({*recorded(out), *names}), indent=1) + "\n", encoding="utf-8")
    draft.replace(out / FILES)


def recorded(out: Path) -> list[str]:
    """What has been recorded in a folder; nothing where the record is missing or is no list of names."""
    try:
        names = json.loads((out / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def clear(out: Path) -> None:
    """Remove what an earlier run recorded, and the folders that this empties; whatever else lies there stays."""
    files = [out / name for name in recorded(out)]
    inside = [file for file in files if file.resolve().is_relative_to(out.resolve())]
    for file in [*inside, out / FILES]:
        file.unlink(missing_ok=True)
    for folder in sorted({parent for file in inside for parent in file.parents if out in parent.parents}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for draft in out.glob(f"{_DRAFT}*"):  # of a run that was killed
        if not answers(int(draft.name.removeprefix(_DRAFT))):
            shutil.rmtree(draft)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beneath `out`, whose files are recorded and moved to `out` at the end, those of a failure as well."""
    draft = out / f"{_DRAFT}{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        files = {file: out / file.relative_to(draft) for file in draft.rglob("*") if file.is_file()}
        record(out, files.values())
        for file, target in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        shutil.rmtree(draft)
