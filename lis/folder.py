"""The folder of a run or sweep holds what the last one there wrote: it is recorded, and the next one removes it."""

from __future__ import annotations

import json
import logging
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lis.files import parse_json, read_bytes
from lis.lock import abandoned, owner

log = logging.getLogger(__name__)

RECORD = ".lis-record.jsonl"
"""Lines `{"lis": 1, "files": [...]}` and `{"lis": 1, "draft": ..., "owner": ...}`; any other line means nothing.

Names are relative to the folder. Lines are appended, so that a run that is killed leaves half a line at most.
"""
_FORMAT = 1
_LARGEST = 4 * 2**20
"""Bytes of a record; a run writes a few kilobytes."""
_DRAFT = re.compile(r"\.lis-draft-[0-9a-f]{32}")


def record(out: Path, files: Iterable[Path]) -> None:
    """Note, before they are written, files beneath `out` as those of the run; they are removed by `clear`."""
    names = {str(file.relative_to(out)) for file in files}
    if new := sorted(names - {*recorded(out)}):
        _append(out, {"files": new})


def recorded(out: Path) -> list[str]:
    """The files that have been recorded in a folder; nothing where there is no record, or none of `lis`."""
    lists = [names for line in _lines(out) if isinstance(names := line.get("files"), list)]
    return sorted({name for names in lists for name in names if isinstance(name, str)})


def clear(out: Path) -> None:
    """Remove what an earlier run recorded, and the folders that this empties; whatever else lies there stays.

    Only regular files and links are removed. One that cannot be is told in the log, and stays.
    """
    out = out.resolve()
    drafts = {name: line for line in _lines(out) if _DRAFT.fullmatch(name := str(line.get("draft")))}
    living = {name: line for name, line in drafts.items() if not _is_abandoned(out / name, line)}
    for name in drafts.keys() - living:
        _remove_draft(out / name)
    removed = [file for name in recorded(out) if (file := _remove(out, name)) is not None]
    for folder in sorted(
        {parent for file in removed for parent in file.parents if out in parent.parents}, reverse=True
    ):
        with suppress(OSError):  # it holds something else
            folder.rmdir()
    _remove(out, RECORD)
    for line in living.values():
        _append(out, line)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beneath `out`, whose files are recorded and moved to `out` at the end, those of a failure as well.

    Raises:
        OSError: something is in the way of a file, which the log names; all others are moved.
    """
    draft = out / f".lis-draft-{uuid.uuid4().hex}"
    out.mkdir(parents=True, exist_ok=True)
    _append(out, {"draft": draft.name, "owner": owner()})
    draft.mkdir()
    try:
        yield draft
    finally:
        files = {file: out / file.relative_to(draft) for file in sorted(draft.rglob("*")) if file.is_file()}
        record(out, files.values())
        errors = [error for file, target in files.items() if (error := _move(file, target)) is not None]
        shutil.rmtree(draft)
        if errors:
            raise errors[0]


def _move(file: Path, target: Path) -> OSError | None:
    """Give a file its final name; the error where that is not possible."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    except OSError as error:
        log.error("%s is not written (%s): move away what is in its way, and start again", target, error.strerror)
        return error
    return None


def _append(out: Path, line: dict[str, Any]) -> None:
    with (out / RECORD).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{json.dumps({'lis': _FORMAT} | line)}\n")  # apart from half a line of a killed run


def _lines(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of the record that `lis` wrote."""
    if not (out / RECORD).is_file():
        return
    try:
        text = read_bytes(out / RECORD, _LARGEST).decode(errors="replace")
    except ValueError as error:
        log.warning("what an earlier run wrote here stays: %s", error)
        return
    for line in text.split("\n"):
        try:
            content = parse_json(line.encode(), RECORD)
        except ValueError:
            continue
        if isinstance(content, dict) and content.get("lis") == _FORMAT:
            yield content


def _remove(out: Path, name: str) -> Path | None:
    """Where a recorded file was that is removed now; None if it is not there, no file, or outside of `out`."""
    try:
        file = (out / name).parent.resolve() / Path(name).name
        if file.is_relative_to(out) and (file.is_symlink() or file.is_file()):
            file.unlink()
            return file
    except (OSError, RuntimeError, ValueError) as error:  # also: no name that a file can have, links in a circle
        log.warning("%s: %r, which an earlier run wrote, is not removed: %s", out, name[:99], error)
    return None


def _remove_draft(draft: Path) -> None:
    """Remove the files and links of a draft, the deepest first, and the folders that this empties."""
    if draft.is_symlink() or not draft.is_dir():
        return
    for path in sorted(draft.rglob("*"), reverse=True):
        if path.is_symlink() or not path.is_dir():
            _remove(draft, str(path.relative_to(draft)))
        else:
            with suppress(OSError):  # what could not be removed has been told
                path.rmdir()
    with suppress(OSError):
        draft.rmdir()


def _is_abandoned(draft: Path, line: dict[str, Any]) -> bool:
    """Whether whoever makes the draft is gone."""
    try:
        return abandoned(str(line.get("owner")), draft)
    except OSError:  # it is finished
        return True
