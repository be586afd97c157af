"""A store whose files arrive late, as on a network file system, or that a job of another version works on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import jobs

from lis.store import Draft, Store

RECIPE, FILL = jobs.recipe(1, "part"), partial(jobs.fill_part, number=1)


def refuse(draft: Draft) -> None:
    raise AssertionError("made again")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))


def test_a_job_of_another_version_is_refused_by_a_store_that_asks_for_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.version = "1.0"
    lock = tmp_path / "locks" / "part" / RECIPE.key
    lock.mkdir(parents=True)
    (lock / "0").write_text("4194305.1.elsewhere\n0.0.1")
    for work in (store.attempt, store.make):
        with pytest.raises(ValueError, match=r"part is being made by lis 0\.0\.1 .*, and this is lis 1\.0"):
            work(RECIPE, refuse)


@pytest.mark.parametrize(
    ("harm", "age", "is_awaited"),
    [(Path.unlink, 0, True), (Path.unlink, -3600, True), (Path.unlink, 3600, True), (Path.unlink, 9000, False)]
    + [(truncate, 0, False), (flip, 0, False)],
    ids=["missing", "clock ahead", "clock behind", "missing for long", "cut off", "other bytes"],
)
def test_what_is_missing_of_a_new_artifact_may_be_on_its_way(
    harm: Callable[[Path], None], age: float, is_awaited: bool, tmp_path: Path
) -> None:
    """From another machine, through a network file system; what is there and is wrong will not change."""
    file = Store(tmp_path).make(RECIPE, FILL).path / "part.safetensors"
    content = file.read_bytes()
    harm(file)
    os.utime(file.parent, (time.time() - age, time.time() - age))
    store, again = Store(tmp_path), []
    artifact = store.attempt(RECIPE, lambda draft: (again.append(1), jobs.fill_part(draft, 1))[1])
    assert (artifact is None) == is_awaited and again == ([] if is_awaited else [1])
    if is_awaited:
        file.write_bytes(content)
        artifact = store.attempt(RECIPE, refuse)
    assert artifact is not None and torch.equal(artifact.tensors("part")["x"], jobs.numbers(1))
    assert (tmp_path / "set-aside").exists() != is_awaited


def test_what_is_missing_for_long_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (Store(tmp_path).make(RECIPE, FILL).path / "part.safetensors").unlink()
    monkeypatch.setattr("lis.store.store.ARRIVAL", 0.3)
    start = time.monotonic()
    assert Store(tmp_path).make(RECIPE, FILL).has("part") and time.monotonic() - start >= 0.3
    assert len(list((tmp_path / "set-aside").iterdir())) == 1
