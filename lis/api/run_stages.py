"""What a run has computed in a stage: tables in its folder, and all else in the store, found by its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pandas as pd
from torch import Tensor

from lis.api.results import StageResult
from lis.api.run_pages import stage_html
from lis.config.renamed import current_stage, earlier_stages
from lis.files import load_safetensors
from lis.names import nearest
from lis.report.jobs import stage_folder
from lis.store import Artifact, Damaged, read_artifact

T = TypeVar("T")
_DEPTH = 4
"""Folders above a run in which `store/` is looked for: those of `outputs/multirun/<date>/<time>/<job>`."""
_KEY, _STAGE = re.compile(r"[0-9a-f]{32}"), re.compile(r"\w+(/\w+)?")
_NAMED = 20
"""Names that an error lists at most."""


class Named(dict[str, T]):
    """A mapping whose `[name]` says which name is like one that it does not have."""

    def __init__(self, values: Mapping[str, T], kind: str) -> None:
        super().__init__(values)
        self._kind = kind

    def __missing__(self, name: str) -> NoReturn:
        raise ValueError(unknown(self._kind, name, self))


@dataclass(frozen=True, eq=False)
class StageFiles:
    """What a run has computed in one stage: its tables, which lie in the run's folder, and all else, in the store.

    Example:
        >>> import lis
        >>> pairs = lis.load("outputs/2026-11-27/23-38-08")["pairs/test"]
        >>> pairs, pairs.tensors("pairs")["r"].shape
        (StageFiles of pairs/test: tables acceptance, torch.Size([150, 256]))
    """

    name: str
    """Of the stage, as `python -m lis.run --stages` lists it."""
    folder: Path
    """Of the tables, beneath the folder of the run."""
    key: str | None
    """Of the artifact in the store; None where the run did not note it."""
    stores: tuple[Path, ...]
    """Where a store may lie, the likeliest first."""
    again: str
    """The command that computes it again, as an error says it."""

    @property
    def tables(self) -> list[str]:
        """Names of its tables."""
        return self._copied(".parquet") or self.stored.tables

    def table(self, name: str) -> pd.DataFrame:
        """One of `tables`; the docstring of the stage says what its columns are.

        Raises:
            ValueError: it has no such table, or the file is damaged; says what there is, and what to do.
        """
        copied = self._copied(".parquet")
        if not copied:
            return self.stored.table(name)
        if name not in copied:
            raise ValueError(unknown(f"table of {self.name}", name, copied))
        return self._read(f"{name}.parquet", pd.read_parquet)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors by name, on the CPU.

        Raises:
            ValueError: there are none of that name, or the store no longer has them; says where they were looked for.
        """
        if name in self._copied(".safetensors"):
            return self._read(f"{name}.safetensors", load_safetensors)
        return self.stored.tensors(name)

    def json(self, name: str) -> dict[str, Any]:
        """Facts.

        Raises:
            ValueError: as for tensors.
        """
        return self.stored.json(name)

    @property
    def stored(self) -> StageResult:
        """All that the store has of it.

        Raises:
            ValueError: as `artifact`.
        """
        return StageResult(self.name, self.artifact)

    @cached_property
    def artifact(self) -> Artifact:
        """Its folder in the store, whose checksums have been verified.

        Raises:
            ValueError: no store has it, or what it has is damaged; says where it was looked for, and what to do.
        """
        if self.key is None:
            raise ValueError(f"{self.name}: the run noted no key of the store, so that only its tables are there")
        stages = [stage.replace("/", "-") for stage in (self.name, *earlier_stages(self.name))]
        folders = [store / stage / self.key for store in self.stores for stage in stages]
        for folder in filter(Path.is_dir, folders):
            try:
                return read_artifact(folder)
            except Damaged as damage:
                raise ValueError(f"{self.name}: {damage}; make it anew: {self.again}") from damage
        raise ValueError(
            f"{self.name}: no store has the artifact {self.key} any more, looked for in "
            f"{', '.join(map(str, self.stores))}; compute it again: {self.again}; or, where the store was moved, name "
            "its folder: lis.load(…, store=…)"
        )

    def _copied(self, suffix: str) -> list[str]:
        """Names of the files that the run's folder has."""
        return sorted(file.stem for file in self.folder.glob(f"*{suffix}"))

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        try:
            return read(self.folder / name)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder / name} cannot be read ({error}); make it anew: {self.again}") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.name}: tables {', '.join(self._copied('.parquet')) or 'none'}"

    def _repr_html_(self) -> str:
        return stage_html(self.name, [self.folder / f"{name}.parquet" for name in self._copied(".parquet")])


def stores_of(run: Path, recorded: str | None, given: Path | None = None) -> tuple[Path, ...]:
    """Where the store of a run may lie, the likeliest first: where it is `given`, else where it was `recorded`, and,
    since a project may have been moved, beside the outputs that the run is among.
    """
    if given is not None:
        return (given,)
    above = [parent / "store" for parent in run.parents[:_DEPTH]]
    return tuple(dict.fromkeys([*([Path(recorded)] if recorded else []), *filter(Path.is_dir, above)] or above[1:2]))


def stage_files(run: Path, artifacts: Mapping[str, Any], stores: tuple[Path, ...], again: str) -> dict[str, StageFiles]:
    """By stage, in the order of the run; then those that it has tables of only.

    Args:
        run: its folder.
        artifacts: keys in the store by stage, as the run noted them.
        stores: where a store may lie.
        again: the command that computes them again.

    Raises:
        ValueError: these are no keys.
    """
    if not all(map(_is_key, artifacts.items())):
        raise ValueError(
            f"{run} notes no artifacts of a store ({str(dict(artifacts))[:80]}): expected keys of 32 hex digits "
            f"by stage; run it again: {again}"
        )
    keys = {current_stage(stage): key for stage, key in artifacts.items()}
    folders = sorted(file.parent.relative_to(run / "tables") for file in (run / "tables").rglob("*.parquet"))
    names = dict.fromkeys([*keys, *(current_stage(folder.as_posix()) for folder in folders)])
    return {name: StageFiles(name, stage_folder(run, name), keys.get(name), stores, again) for name in names}


def _is_key(item: tuple[str, Any]) -> bool:
    stage, key = item
    return bool(_STAGE.fullmatch(stage) and isinstance(key, str) and _KEY.fullmatch(key))


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """Why there is nothing of a name.

    Example:
        >>> unknown("table of link", "unit", ["path", "units"])
        "no table of link is called 'unit'; did you mean units? Expected one of path, units"
    """
    if not known:
        return f"no {kind} is called {name!r}: there are none at all"
    listed = ", ".join(sorted(known)[:_NAMED]) + (f" and {len(known) - _NAMED} more" if len(known) > _NAMED else "")
    hint = nearest(str(name), known)  # first, since the list may be long
    return f"no {kind} is called {name!r}{hint + ' Expected' if hint else ': expected'} one of {listed}"
