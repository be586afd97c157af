"""The store: keys, round trips, damage, publishing, and many processes that want the same artifact."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from lis.store import Draft, Recipe, Store, check_writable, disk_fault

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
    assert artifact.has("rows") and artifact.has("numbers") and artifact.has("facts") and not artifact.has("others")


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


def test_a_full_disk_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: _text_to_full_disk())
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
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, harm
) -> None:
    file = Store(tmp_path).make(RECIPE, fill).path / name
    harm(file)
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    with caplog.at_level(logging.WARNING):
        artifact = store.make(RECIPE, fill)
    assert str(file) in caplog.text and "set aside" in caplog.text
    assert artifact.json("facts")["n"] == 2 and Store(tmp_path).make(RECIPE, refuse) == artifact
    assert len(list((tmp_path / "set-aside").iterdir())) == 1


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"files": []}', '{"files": {"facts.json": 3}}', "\x00"])
def test_a_manifest_of_another_shape_is_damage(tmp_path: Path, manifest: str) -> None:
    path = Store(tmp_path).make(RECIPE, fill).path
    (path / "manifest.json").write_text(manifest)
    assert Store(tmp_path).find(RECIPE) is None


def test_a_half_written_draft_is_never_read(tmp_path: Path) -> None:
    draft = tmp_path / "drafts" / "stage" / RECIPE.key / "abc"
    draft.mkdir(parents=True)
    (draft / "facts.json").write_text("{}")
    assert Store(tmp_path).find(RECIPE) is None
    assert Store(tmp_path).make(RECIPE, fill).json("facts")["n"] == 2 and not draft.exists()


def test_of_two_that_publish_the_first_one_stays(tmp_path: Path) -> None:
    """A job whose lease was taken over while it stood still finishes late."""

    def slow(draft: Draft) -> None:
        fill(draft)
        (tmp_path / "locks").rename(tmp_path / "locks-of-the-slow-one")
        (tmp_path / "drafts").rename(tmp_path / "drafts-of-the-slow-one")
        Store(tmp_path).make(RECIPE, fill)
        created.append((tmp_path / "stage" / RECIPE.key / "manifest.json").stat().st_mtime_ns)
        (tmp_path / "drafts-of-the-slow-one" / "stage" / RECIPE.key).rename(tmp_path / "drafts" / "stage" / RECIPE.key)

    created: list[int] = []
    artifact = Store(tmp_path).make(RECIPE, slow)
    assert (artifact.path / "manifest.json").stat().st_mtime_ns == created[0]


def test_an_unwritable_root_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"store: the folder .*file/store cannot be written"):
        Store(tmp_path / "file" / "store")
    with pytest.raises(ValueError, match=r"hydra\.run\.dir: the folder"):
        check_writable(tmp_path / "file", "hydra.run.dir")


WORK = """
    import sys, time
    from pathlib import Path
    from lis.store import Recipe, Store

    root, seconds = Path(sys.argv[1]), float(sys.argv[2])

    def build(draft):
        with (root / "log").open("a") as log:
            log.write("built\\n")
        draft.json("half", {})
        time.sleep(seconds)
        draft.json("facts", {"n": 2})

    for number in range(3):
        Store(root, lease=1.0).make(Recipe("stage", 1, {"number": number}), build)
"""


def worker(root: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORK), str(root), str(seconds)])


@pytest.mark.slow
def test_processes_that_want_the_same_do_it_once(tmp_path: Path) -> None:
    workers = [worker(tmp_path, 0.3) for _ in range(4)]
    assert [process.wait(60) for process in workers] == [0] * 4
    assert (tmp_path / "log").read_text().splitlines() == ["built"] * 3


@pytest.mark.slow
def test_a_killed_owner_is_replaced_by_whoever_waits(tmp_path: Path) -> None:
    first = worker(tmp_path, 60)
    while not list(tmp_path.glob("drafts/stage/*/*/half.json")):
        time.sleep(0.05)
    second = worker(tmp_path, 0.0)
    time.sleep(1.5)
    assert second.poll() is None  # it waits for the living owner, longer than a lease
    first.send_signal(signal.SIGKILL)
    assert second.wait(60) == 0
    first.wait()
    assert len(list(tmp_path.glob("stage/*/facts.json"))) == 3 and not list(tmp_path.glob("drafts/stage/*/*"))
