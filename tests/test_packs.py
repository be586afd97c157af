"""Packed shards: read as before, by whoever holds them too; nothing is lost by a kill, a full disk or damage."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lis.store import Artifact, Damaged, Draft, Packs, Recipe, Store, pack, read_artifact
from lis.store.artifacts import _verify
from lis.store.packs import Pack

STAGE = "x-shard"
SIZE = 4


def recipe(number: int, stage: str = STAGE) -> Recipe:
    return Recipe(stage, 1, {"number": number})


def fill(number: int) -> Callable[[Draft], None]:
    def build(draft: Draft) -> None:
        x = torch.arange(6.0).reshape(2, 3).T + number
        draft.tensors("block", {"x": x, "none": torch.zeros(0, 3), "scalar": torch.tensor(number)})
        draft.table("rows", pd.DataFrame({"unit": [number, 1], "mean": [0.5, float("nan")]}))
        draft.json("facts", {"kind": "ÿ", "n": number})

    return build


def refuse(draft: Draft) -> None:
    raise AssertionError("made again")


def made(root: Path, size: int = SIZE) -> list[Artifact]:
    store = Store(root)
    return [store.make(recipe(number), fill(number)) for number in range(size)]


def check_content(artifact: Artifact, number: int) -> None:
    """It is what `fill` made."""
    tensors = artifact.tensors("block")
    assert tensors["x"].tolist() == [
        [number + 0.0, number + 3.0],
        [number + 1.0, number + 4.0],
        [number + 2, number + 5],
    ]
    assert tensors["none"].shape == (0, 3) and tensors["scalar"].item() == number
    tensors["x"] += 1  # its memory is the reader's
    assert artifact.table("rows")["unit"].tolist() == [number, 1] and artifact.table("rows")[
        "mean"
    ].isna().tolist() == [False, True]
    assert artifact.json("facts") == {"kind": "ÿ", "n": number}
    assert artifact.has("rows") and not artifact.has("x")


def check_all(root: Path, size: int = SIZE) -> None:
    """All are there, and none has to be made again."""
    store = Store(root)
    for number in range(size):
        check_content(store.make(recipe(number), refuse), number)


def folders(root: Path) -> list[Path]:
    return [path for path in (root / STAGE).iterdir() if path.name != "packs"]


def drafts(root: Path) -> list[Path]:
    return [path for path in (root / "drafts").rglob("*") if "@" in path.name]


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A pack in a store of its own."""
    path = pack(tmp_path, made(tmp_path))
    assert path is not None
    return path


def test_packed_artifacts_are_read_as_before(tmp_path: Path) -> None:
    before = made(tmp_path)
    path = pack(tmp_path, before)
    assert path and path.parent == tmp_path / STAGE / "packs" and not folders(tmp_path) and not drafts(tmp_path)
    store = Store(tmp_path)
    for number, artifact in enumerate(before):
        again = store.make(recipe(number), refuse)
        assert (again.key, again.manifest, again.path) == (artifact.key, artifact.manifest, path / artifact.key)
        check_content(again, number)
        assert store.find(recipe(number)) is again, "verified again"
    assert store.find(recipe(SIZE)) is None
    with pytest.raises(FileNotFoundError, match=f"{path / before[0].key / 'other.safetensors'}"):
        store.make(recipe(0), refuse).tensors("other")


def test_its_name_follows_from_the_keys_alone(tmp_path: Path) -> None:
    first = pack(tmp_path / "a", made(tmp_path / "a"))
    second = pack(tmp_path / "b", [*made(tmp_path / "b")[::-1], *made(tmp_path / "b")])
    third = pack(tmp_path / "c", made(tmp_path / "c", 3))
    assert first and second and third and first.name == second.name != third.name


def test_any_zip_tool_restores_the_folders(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None and {info.compress_type for info in archive.infolist()} == {0}
        archive.extractall(tmp_path / "restored")
    restored = sorted((tmp_path / "restored").iterdir())
    numbers = [read_artifact(folder).json("facts")["n"] for folder in restored]
    assert sorted(numbers) == [*range(SIZE)]


def test_fewer_than_two_and_several_stages(tmp_path: Path) -> None:
    first, second, *_ = made(tmp_path)
    assert pack(tmp_path, []) is pack(tmp_path, [first]) is pack(tmp_path, [first, first]) is None
    assert not (tmp_path / STAGE / "packs").exists() and first.path.is_dir()
    other = Store(tmp_path).make(recipe(0, "y-shard"), fill(0))
    with pytest.raises(ValueError, match="artifacts of x-shard, y-shard: expected those of one stage"):
        pack(tmp_path, [first, second, other])


def test_a_larger_run_starts_from_the_pack_and_adds_another(packed: Path, tmp_path: Path) -> None:
    larger = made(tmp_path, SIZE + 2)
    assert len(folders(tmp_path)) == 2
    second = pack(tmp_path, larger)
    assert second and second != packed and not folders(tmp_path)
    check_all(tmp_path, SIZE + 2)
    assert pack(tmp_path, larger) is None


def test_whoever_holds_an_artifact_reads_on(tmp_path: Path) -> None:
    """Also in another process, to which it was sent."""
    held = made(tmp_path)
    sent = pickle.loads(pickle.dumps(held))
    pack(tmp_path, held)
    again = pickle.loads(pickle.dumps([Store(tmp_path).find(recipe(number)) for number in range(SIZE)]))
    assert again[0].packed.func.__self__ is pickle.loads(pickle.dumps(again[1])).packed.func.__self__
    for artifacts in (held, sent, again):
        for number, artifact in enumerate(artifacts):
            check_content(artifact, number)


def test_what_is_in_no_pack_either_is_missing(tmp_path: Path) -> None:
    artifact = made(tmp_path)[0]
    shutil.rmtree(artifact.path)
    with pytest.raises(FileNotFoundError) as error:
        artifact.tensors("block")
    assert error.value.filename == str(artifact.path / "block.safetensors")


def forked(work: Callable[[], object]) -> int:
    """Number of a process that does this and nothing else."""
    if pid := os.fork():
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid: int) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_processes_read_while_it_is_packed(tmp_path: Path) -> None:
    artifacts, ready, stop = made(tmp_path), tmp_path / "ready", tmp_path / "stop"

    def read() -> None:
        while not stop.exists():
            check_all(tmp_path)
            for number, artifact in enumerate(artifacts):
                check_content(artifact, number)
            ready.touch()

    pids = [forked(read) for _ in range(2)]
    while not ready.exists() and not os.waitpid(-1, os.WNOHANG)[0]:
        time.sleep(0.01)
    assert pack(tmp_path, artifacts) and not folders(tmp_path)
    stop.touch()
    assert [ended(pid) for pid in pids] == [0, 0]


def test_two_processes_pack_the_same(tmp_path: Path) -> None:
    """Each begins with all folders, or while the other one removes them."""
    artifacts = made(tmp_path)
    pids = [forked(partial(pack, tmp_path, artifacts)) for _ in range(3)]
    assert [ended(pid) for pid in pids] == [0, 0, 0]
    pack(tmp_path, artifacts)  # what the last one left because the others had begun
    assert not folders(tmp_path) and not drafts(tmp_path)
    check_all(tmp_path)


def test_what_is_packed_while_it_is_verified_is_read_from_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = made(tmp_path)

    def late(folder: Path) -> dict[str, Any]:
        pack(tmp_path, artifacts)
        return _verify(folder)

    store = Store(tmp_path)
    monkeypatch.setattr("lis.store.artifacts._verify", late)
    check_content(store.make(recipe(1), refuse), 1)
    assert not (tmp_path / "set-aside").exists()


def test_a_file_that_is_packed_while_it_is_read_is_read_from_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Safetensors opens it twice, and is told of an unknown error by the second time."""
    artifacts, from_file, packed = made(tmp_path), torch.UntypedStorage.from_file, []

    def late(*arguments: Any, **keywords: Any) -> Any:
        packed.append(pack(tmp_path, artifacts))
        return from_file(*arguments, **keywords)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", late)
    check_content(artifacts[1], 1)
    assert len(packed) == 1 and packed[0]


def pack_and_die(root: Path, artifacts: list[Artifact], step: int) -> None:
    """Pack, and have this process killed before its n-th change of the disk."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call

    for name in ("replace", "mkdir", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    zipfile.ZipFile.writestr = counted(zipfile.ZipFile.writestr)
    pack(root, artifacts)


def test_a_kill_between_any_two_steps_loses_nothing(tmp_path: Path) -> None:
    """Every step, one after the other, until there is none to be killed at."""
    made(tmp_path / "template", 2)
    step, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(tmp_path / "template", root)
        code = ended(forked(partial(pack_and_die, root, made(root, 2), step)))
        check_all(root, 2)
        pack(root, made(root, 2))
        assert not folders(root) and not drafts(root) and len([*(root / STAGE / "packs").iterdir()]) == 1
        check_all(root, 2)
    assert code == 0 and step > 2 * (4 + 1 + 5)  # members; renames; files and folders that are removed


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000, 12_000])
def test_a_full_disk_leaves_all_folders(size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    artifacts = made(tmp_path)
    with full_disk(size):
        assert pack(tmp_path, artifacts) is None
    assert f"{SIZE} artifacts stay in folders of their own: they cannot be packed" in caplog.text
    assert len(folders(tmp_path)) == SIZE and not drafts(tmp_path) and not [*tmp_path.rglob("*.zip")]
    check_all(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "block.safetensors"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_folder_is_not_packed(name: str, harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    artifacts = made(tmp_path)
    file = artifacts[1].path / name
    damage(file, harm)
    assert pack(tmp_path, artifacts) and folders(tmp_path) == [artifacts[1].path]
    assert str(file) in caplog.text and "it is not packed" in caplog.text
    store = Store(tmp_path)
    assert [store.find(recipe(number)) is None for number in range(SIZE)] == [False, True, False, False]
    assert pack(tmp_path, artifacts) is None and folders(tmp_path) == [artifacts[1].path]


def damage(file: Path, harm: str) -> None:
    """Flip a bit in the middle, cut off the last bytes, or remove it."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content if harm == "flip" else file.read_bytes()[:-7])


def compress(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: damage(file, "truncate"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(bytes(999)),
        compress,
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["torn", "empty", "no zip", "compressed", "a folder"],
)
def test_a_damaged_pack_counts_as_absent(
    harm: Callable[[Path], None], packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(packed)
    store = Store(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [store.find(recipe(number)) for number in range(SIZE)] == [None] * SIZE
    assert str(packed) in caplog.text and caplog.text.count("this pack counts as absent") == 1
    artifacts = [store.make(recipe(number), fill(number)) for number in range(SIZE)]
    if packed.is_dir():
        packed.rmdir()
    assert pack(tmp_path, artifacts) == packed and not folders(tmp_path)
    for number, artifact in enumerate(artifacts):
        check_content(artifact, number)  # by a process that knew the damaged one
    check_all(tmp_path)


def test_damage_within_a_pack_costs_one_artifact(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = recipe(2).key
    with zipfile.ZipFile(packed) as archive:
        start = archive.getinfo(f"{key}/block.safetensors").header_offset
    content = bytearray(packed.read_bytes())
    content[start + 200] ^= 1
    packed.write_bytes(content)
    store = Store(tmp_path)
    for number in (0, 1, 3):
        check_content(store.make(recipe(number), refuse), number)
    assert not caplog.text
    assert store.find(recipe(2)) is None and store.find(recipe(2)) is None
    assert caplog.text.count(f"{packed / key / 'block.safetensors'} does not have the checksum") == 1
    check_content(store.make(recipe(2), fill(2)), 2)
    check_all(tmp_path)


def test_a_damaged_copy_beside_an_intact_pack_is_not_read(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / STAGE)
    damage(tmp_path / STAGE / recipe(1).key / "block.safetensors", "flip")
    check_all(tmp_path)
    artifacts = [Store(tmp_path).make(recipe(number), refuse) for number in range(SIZE)]
    assert pack(tmp_path, artifacts) is None and not folders(tmp_path)


def test_of_several_packs_an_intact_one_is_read(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / STAGE)
    second = packed.with_name(f"{'f' * 32}.zip")
    damaged = bytearray(packed.read_bytes())
    for number in range(SIZE):
        damaged[damaged.index(f'"number": {number}'.encode()) + 10] ^= 1
    packed.replace(second)
    packed.write_bytes(damaged)
    shutil.rmtree(tmp_path / STAGE / recipe(0).key)
    check_all(tmp_path)


def test_one_handle_serves_all_reads_and_forks(packed: Path, tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    artifacts = [artifact for number in range(SIZE) if (artifact := packs.find(STAGE, recipe(number).key))]
    assert len(artifacts) == SIZE
    packed.unlink()  # by another run: who has it open reads on

    def read() -> None:
        for _ in range(5):
            for number, artifact in enumerate(artifacts):
                check_content(artifact, number)

    pids = [forked(read) for _ in range(2)]
    read()
    assert [ended(pid) for pid in pids] == [0, 0]
    handles = [os.fspath(handle.readlink()) for handle in Path("/proc/self/fd").iterdir() if handle.is_symlink()]
    assert handles.count(f"{packed} (deleted)") == 1


def test_a_pack_that_comes_later_is_seen(tmp_path: Path) -> None:
    packs, artifacts = Packs(tmp_path), made(tmp_path)
    assert packs.find(STAGE, artifacts[0].key) is None and packs.read(STAGE, artifacts[0].key, "facts.json") is None
    pack(tmp_path, artifacts)
    assert packs.read(STAGE, artifacts[0].key, "facts.json") == b'{\n "kind": "\\u00ff",\n "n": 0\n}'
    assert packs.read(STAGE, artifacts[0].key, "other.json") is None


def test_what_another_user_owns_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    artifacts, replace = made(tmp_path), Path.replace

    def refused(path: Path, target: Path) -> Path:
        if path == artifacts[2].path:
            raise PermissionError(13, "Permission denied", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    assert pack(tmp_path, artifacts) and folders(tmp_path) == [artifacts[2].path]
    assert f"{artifacts[2].path} cannot be removed" in caplog.text
    check_all(tmp_path)


def test_a_member_beyond_the_end_is_refused(packed: Path) -> None:
    content = packed.read_bytes()
    header = content.index(b"PK\x01\x02")
    packed.write_bytes(content[: header + 20] + b"\xf0\xff\xff\x7f" * 2 + content[header + 28 :])
    with pytest.raises(Damaged, match="lies outside of it"):
        Pack(packed)
