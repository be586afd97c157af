"""What a person can do about a disk that is full or a store that is gone."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from lis.store.artifacts import DRAFTS, KEY, LOCKS, SET_ASIDE

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_fault(error: BaseException, root: Path) -> str | None:
    """What a person can do about a disk that is full or a store that is gone, in one line; None for any other error,
    and for a `ValueError`, which says that itself.

    Args:
        error: as a run raised it. What safetensors and pyarrow raise has the system's number in its text only.
        root: of the store.
    """
    causes = [] if isinstance(error, ValueError) else list(_causes(error))
    for cause in causes:
        if _number(cause) in _FULL:
            return (
                f"no space left to write to ({cause}): free some, or choose store=… or hydra.run.dir=… elsewhere; what "
                f"is finished is kept in {root}, and the same command goes on from there"
            )
    for cause in causes:
        if _is_of_store(cause, root):
            return (
                f"the store {root} was changed or went away during the run ({cause}): bring it back, or choose "
                "store=… elsewhere; the same command makes again what is missing"
            )
    return None


def _is_of_store(error: BaseException, root: Path) -> bool:
    """Whether the system refused a file of the store; safetensors names none, and writes nowhere else."""
    if isinstance(error, SafetensorError):
        return _number(error) is not None
    if not isinstance(error, OSError):
        return False
    names = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))]
    if not names:  # pyarrow's, whose text has the path
        return f"{root}{os.sep}" in str(error) or not root.is_dir()
    files = [path for name in names if (path := Path(os.fsdecode(name))).is_relative_to(root)]
    return any(_is_made(file.relative_to(root)) or not root.is_dir() for file in files)


def _is_made(file: Path) -> bool:
    """Whether a file of the store's folder is of an artifact or a lock; a person may keep others there."""
    return file.parts[:1] in ((DRAFTS,), (LOCKS,), (SET_ASIDE,)) or any(map(KEY.fullmatch, file.parts))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    """The system's number of an error, such as `errno.ENOSPC`; None where it has none."""
    number = getattr(error, "errno", None)
    result = re.search(r"\b(?:os error|errno) (\d+)", str(error), re.IGNORECASE)
    return number if number is not None else int(result[1]) if result else None


def check_writable(folder: Path, name: str) -> None:
    """Make a folder and a file in it.

    Raises:
        ValueError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # without a name, which a killed run would leave behind
            probe.write(bytes(4096))  # an empty file fits on a full disk
    except OSError as error:
        raise ValueError(f"{name}: the folder {folder} cannot be written ({error}); choose another") from error
