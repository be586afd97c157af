"""The store: keys, round trips, damage, publishing, and jobs that stand still meanwhile."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from lis.lock import RELEASED, owner
from lis.store import Damaged, Draft, Recipe, Store, check_writable, disk_fault
from lis.store.artifacts import _verify

FULL = Path("/dev/full")
"""What Linux has for a disk that is always full."""
RECIPE = Recipe("stage", 1, {"n": 3, "names": ["a", "b"]}, inputs=("k1",), weights={"net": "f00"})


def fill(draft: Draft) -> None:
    draft.tensors("numbers", {"r": torch.arange(6.0).reshape(2, 3).T, "i": torch.tensor([1, 2])})
    draft.table("rows", pd.DataFrame({"unit": [0, 1], "mean": [0.5, float("nan")]}))
    draft.json("facts", {"kind": "lr", "n": 2})


def refuse(draft: Draft) -> None:
    raise AssertionError("made again")


def test_the_key_is_the_hash_of_canonical_json() -> None:
    text = '{"config":{"n":3,"names":["a","b"]},"inputs":["k1"],"stage":"stage","version":1,"weights":{"net":"f00"}}'
    assert RECIPE.key == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert RECIPE.key == replace(RECIPE, config={"names": ["a", "b"], "n": 3}).key


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "other"},
        {"version": 2},
        {"config": {"n": 4, "names": ["a", "b"]}},
        {"inputs": ("k2",)},
        {"weights": {}},
    ],
)
def test_everything_in_a_recipe_changes_the_key(change: dict) -> None:
    assert replace(RECIPE, **change).key != RECIPE.key


@pytest.mark.parametrize("value", [float("nan"), Path("x"), torch.zeros(1)])
def test_a_recipe_takes_only_what_json_expresses_exactly(value: object) -> None:
    with pytest.raises(ValueError, match="recipe of stage 'stage'"):
        _ = Recipe("stage", 1, {"value": value}).key


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    artifact = Store(tmp_path).make(RECIPE, fill)
    assert artifact.path == tmp_path / "stage" / RECIPE.key
    assert torch.equal(artifact.tensors("numbers")["r"], torch.arange(6.0).reshape(2, 3).T)
    pd.testing.assert_frame_equal(artifact.table("rows"), pd.DataFrame({"unit": [0, 1], "mean": [0.5, float("nan")]}))
    assert artifact.json("facts") == {"kind": "lr", "n": 2}
    assert artifact.has("rows") and artifact.has("numbers") and artifact.has("facts") and not artifact.has("off_target")


def test_the_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    manifest = json.loads((Store(tmp_path, device="cpu").make(RECIPE, fill).path / "manifest.json").read_text())
    assert manifest["recipe"]["config"] == {"n": 3, "names": ["a", "b"]}
    assert set(manifest["versions"]) == {"lis", "torch", "numpy"} and manifest["device"] == "cpu"
    assert set(manifest["files"]) == {"numbers.safetensors", "rows.parquet", "facts.json"}
    facts = json.dumps({"kind": "lr", "n": 2}, indent=1).encode()
    assert manifest["files"]["facts.json"] == {"size": len(facts), "sha256": hashlib.sha256(facts).hexdigest()}


def test_nothing_is_made_twice_and_nothing_else_is_left(tmp_path: Path) -> None:
    first = Store(tmp_path).make(RECIPE, fill)
    assert Store(tmp_path).make(RECIPE, refuse) == first
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    names = ("manifest.json", "numbers.safetensors", "rows.parquet", "facts.json")
    assert files == {f"stage/{RECIPE.key}/{name}" for name in names}


def test_find_reads_and_never_makes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    assert store.find(RECIPE) is None and store.make(RECIPE, fill) == store.find(RECIPE)


def test_moving_the_store_keeps_it_valid(tmp_path: Path) -> None:
    Store(tmp_path / "here").make(RECIPE, fill)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Store(tmp_path / "there").make(RECIPE, refuse).json("facts")["n"] == 2


def test_a_failing_build_publishes_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    def broken(draft: Draft) -> None:
        draft.json("facts", {})
        raise RuntimeError("no")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="no"):
        store.make(RECIPE, broken)
    assert store.find(RECIPE) is None and not list((tmp_path / "drafts").rglob("*.json"))
    assert store.make(RECIPE, fill).has("facts")


def _text_to_full_disk() -> None:
    FULL.write_text("x")


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "write",
    [
        _text_to_full_disk,
        lambda: pd.DataFrame({"a": range(10)}).to_parquet(FULL),
        lambda: Draft(Path("/x")).json("a", _text_to_full_disk()),
    ],
)
def test_a_full_disk_is_told_in_one_line_with_the_remedy(write: Callable[[], None], tmp_path: Path) -> None:
    with pytest.raises(OSError) as error:  # noqa: PT011 (its number is looked at)
        write()
    wrapped = RuntimeError("stage failed")
    wrapped.__cause__ = error.value
    for found in (error.value, wrapped):
        line = disk_fault(found, tmp_path)
        assert line and "no space left" in line and "store=…" in line and f"kept in {tmp_path}" in line
        assert "\n" not in line


def test_what_safetensors_says_about_a_full_disk_is_understood(tmp_path: Path) -> None:
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert "no space left" in (disk_fault(SafetensorError(text), tmp_path) or "")
    assert disk_fault(SafetensorError("Error while deserializing header"), tmp_path) is None


@pytest.mark.parametrize("write", [lambda draft: draft.json("a", 1), fill])
def test_a_store_that_vanishes_while_something_is_made_is_told_in_one_line(
    write: Callable[[Draft], None], tmp_path: Path
) -> None:
    def vanish(draft: Draft) -> None:
        shutil.rmtree(tmp_path / "store")
        write(draft)

    with pytest.raises((OSError, SafetensorError)) as error:
        Store(tmp_path / "store").make(RECIPE, vanish)
    line = disk_fault(error.value, tmp_path / "store")
    assert line and str(tmp_path / "store") in line and "went away" in line and "the same command" in line


KEY = RECIPE.key


@pytest.mark.parametrize(
    ("name", "is_of_store"),
    [
        (f"store/link/{KEY}/link.safetensors", True),
        (f"store/pairs/train/{KEY}", True),
        (f"store/drafts/link/{KEY}/0/a.json", True),
        (f"store/locks/link/{KEY}/0", True),
        ("store-labels/a.png", False),
        (f"store-labels/{KEY}/a.png", False),
        ("store/labels/a.png", False),
        ("store/weights.pt", False),
        ("store", False),
    ],
)
def test_a_missing_file_is_of_the_store_only_where_the_store_made_it(
    name: str, is_of_store: bool, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    file = tmp_path / name
    for error in (
        FileNotFoundError(2, "No such file or directory", str(file)),
        FileNotFoundError(2, "No such file or directory", "/elsewhere", None, os.fsencode(file)),
    ):
        assert (disk_fault(error, tmp_path / "store") is not None) == is_of_store


def test_a_missing_file_elsewhere_is_no_fault_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert disk_fault(FileNotFoundError(2, "No such file", str(tmp_path / "store-labels" / "a.png")), store) is None
    assert disk_fault(FileNotFoundError(2, f"Cannot open '{store}-labels/a.parquet'"), tmp_path) is not None
    assert disk_fault(FileNotFoundError(2, "No such file", str(store / "a.png")), store) is not None


def test_other_errors_are_no_faults_of_the_disk(tmp_path: Path) -> None:
    unwritable = ValueError("store: the folder cannot be written")
    unwritable.__cause__ = PermissionError(13, "Permission denied", str(tmp_path))
    others = (unwritable, FileNotFoundError(2, "No such file", "/elsewhere"), KeyError("a"), RuntimeError("errno 7"))
    assert [disk_fault(error, tmp_path) for error in others] == [None] * 4


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lis.store.faults.tempfile.TemporaryFile", lambda dir: FULL.open("wb"))
    with pytest.raises(ValueError, match=r"cannot be written \(.*No space left on device"):
        check_writable(tmp_path, "store")


def test_stages_may_build_inside_stages(tmp_path: Path) -> None:
    store = Store(tmp_path)
    inner = replace(RECIPE, stage="stage/inner")
    store.make(RECIPE, lambda draft: draft.json("facts", store.make(inner, fill).json("facts")))
    assert Store(tmp_path).make(RECIPE, refuse).json("facts")["kind"] == "lr"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["numbers.safetensors", "rows.parquet", "facts.json", "manifest.json"])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_damage_is_named_set_aside_and_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, harm
) -> None:
    monkeypatch.setattr("lis.store.store.ARRIVAL", 0.0)
    file = Store(tmp_path).make(RECIPE, fill).path / name
    harm(file)
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    with caplog.at_level(logging.WARNING):
        artifact = store.make(RECIPE, fill)
    assert str(file) in caplog.text and "set aside" in caplog.text
    assert artifact.json("facts")["n"] == 2 and Store(tmp_path).make(RECIPE, refuse) == artifact
    assert len(list((tmp_path / "set-aside").iterdir())) == 1


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"files": []}', '{"files": {"facts.json": 3}}', "\x00", "[" * 100_000]
)
def test_a_manifest_of_another_shape_is_damage(tmp_path: Path, manifest: str) -> None:
    path = Store(tmp_path).make(RECIPE, fill).path
    (path / "manifest.json").write_text(manifest)
    assert Store(tmp_path).find(RECIPE) is None


GONE = f"4194305.{owner().partition('.')[2]}"
"""An owner with a number beyond what a process can have."""


def left(root: Path, of: str, age: float = 0.0) -> Path:
    """The half-written draft of an owner, touched so many days ago."""
    draft = root / "drafts" / "stage" / f"{KEY}@{of}@01234567"
    draft.mkdir(parents=True)
    (draft / "facts.json").write_text("{}")
    then = time.time() - age * 86400
    os.utime(draft, (then, then))
    return draft


@pytest.mark.parametrize(
    ("of", "age", "is_left"),
    [
        (GONE, 0, False),
        (owner(), 9, True),
        (f"{GONE}-elsewhere", 0, True),
        (f"{GONE}-elsewhere", 1 / 24, True),
        (f"{GONE}-elsewhere", -1 / 24, True),
        (f"{GONE}-elsewhere", 2, False),
    ],
    ids=["gone", "living", "elsewhere", "clock behind", "clock ahead", "elsewhere and old"],
)
def test_a_draft_is_removed_only_when_its_owner_is_gone(of: str, age: float, is_left: bool, tmp_path: Path) -> None:
    """By whoever makes the same artifact, and by whoever opens the store."""
    store, draft = Store(tmp_path), left(tmp_path, of, age)
    assert store.find(RECIPE) is None
    assert store.make(RECIPE, fill).json("facts")["n"] == 2 and draft.exists() == is_left
    shutil.rmtree(tmp_path / "drafts")
    draft = left(tmp_path, of, age)
    assert Store(tmp_path) and draft.exists() == is_left


def test_what_a_killed_run_left_behind_a_finished_artifact_is_removed(tmp_path: Path) -> None:
    """Killed between publishing and clearing its lock, which nobody would ask for again. By whoever opens the store,
    and by whoever has it open and reads the artifact.
    """
    Store(tmp_path).make(RECIPE, fill)
    store, lock = Store(tmp_path), tmp_path / "locks" / "stage" / KEY
    for notice in (lambda: Store(tmp_path), lambda: store.make(RECIPE, refuse)):
        lock.mkdir(parents=True)
        (lock / "0").write_text(GONE)
        notice()
        assert not lock.exists()


def standing_still(root: Path, meanwhile: Callable[[], object]) -> Callable[[Draft], None]:
    """A build in the middle of which the job stands still for longer than its lease."""
    calls: list[Draft] = []

    def build(draft: Draft) -> None:
        calls.append(draft)
        draft.json("half", {})
        if len(calls) == 1:
            shutil.rmtree(root / "locks")  # who takes over clears the lock at the end
            meanwhile()
        fill(draft)
        (draft.path / "half.json").unlink()

    return build


def leftovers(root: Path) -> list[Path]:
    """Drafts and locks, and what was set aside."""
    named = [path for top in ("drafts", "locks") for path in (root / top).rglob("*") if KEY in path.name]
    return named + list((root / "set-aside").rglob("*"))


def test_of_two_that_publish_the_first_one_stays(tmp_path: Path) -> None:
    """A job that was taken over while it stood still finishes late, with its own draft."""
    made: list[str] = []
    build = standing_still(tmp_path, lambda: made.append(Store(tmp_path).make(RECIPE, fill).manifest["created"]))
    assert Store(tmp_path).make(RECIPE, build).manifest["created"] == made[0]
    assert not leftovers(tmp_path)


def test_a_job_that_was_taken_over_and_fails_removes_its_own_draft_only(tmp_path: Path) -> None:
    def broken(draft: Draft) -> None:
        other.append(left(tmp_path, owner()))
        (tmp_path / "locks" / "stage" / KEY / "1").write_text(owner())
        raise RuntimeError("no")

    other: list[Path] = []
    with pytest.raises(RuntimeError, match="no"):
        Store(tmp_path).make(RECIPE, broken)
    assert list((tmp_path / "drafts" / "stage").iterdir()) == other and (other[0] / "facts.json").exists()
    assert (tmp_path / "locks" / "stage" / KEY / "1").read_text() == owner()


@pytest.mark.parametrize("is_published", [True, False])
def test_a_job_whose_draft_was_removed_while_it_stood_still_waits_again(is_published: bool, tmp_path: Path) -> None:
    """As on another machine after a day."""

    def removed() -> None:
        store = Store(tmp_path)
        for draft in (tmp_path / "drafts" / "stage").iterdir():
            store._discard(draft)
        if is_published:
            store.make(RECIPE, fill)
        else:
            (tmp_path / "locks" / "stage" / KEY).mkdir(parents=True)

    assert Store(tmp_path).make(RECIPE, standing_still(tmp_path, removed)).json("facts")["n"] == 2
    assert not leftovers(tmp_path)


def test_what_was_published_meanwhile_and_is_damaged_is_made_again(tmp_path: Path) -> None:
    build = standing_still(tmp_path, lambda: flip(Store(tmp_path).make(RECIPE, fill).path / "facts.json"))
    assert Store(tmp_path).make(RECIPE, build).json("facts")["n"] == 2
    assert [path.name.startswith(f"stage-{KEY}") for path in (tmp_path / "set-aside").iterdir()] == [True]


def test_a_job_that_lost_its_lock_while_it_verified_sets_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: another job takes over, and mends what this one finds damaged."""
    Store(tmp_path).make(RECIPE, fill)
    verify, calls = _verify, []

    def stale(folder: Path) -> dict:
        calls.append(folder)
        if len(calls) == 2:  # the first look is without the lock
            (tmp_path / "locks" / "stage" / KEY / "1").write_text(RELEASED)
        if len(calls) <= 2:
            raise Damaged("as it was")
        return verify(folder)

    monkeypatch.setattr("lis.store.artifacts._verify", stale)
    assert Store(tmp_path).make(RECIPE, refuse).json("facts")["n"] == 2
    assert not leftovers(tmp_path)


def test_an_artifact_set_aside_while_another_job_verifies_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: a file is gone between the look at its size and at its content."""
    Store(tmp_path).make(RECIPE, fill)

    def gone(file: Path) -> str:
        raise FileNotFoundError(file)

    monkeypatch.setattr("lis.store.artifacts.sha256", gone)
    assert Store(tmp_path).find(RECIPE) is None


def test_an_unwritable_root_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"store: the folder .*file/store cannot be written"):
        Store(tmp_path / "file" / "store")
    with pytest.raises(ValueError, match=r"hydra\.run\.dir: the folder"):
        check_writable(tmp_path / "file", "hydra.run.dir")
