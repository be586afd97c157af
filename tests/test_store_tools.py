"""`python -m lis.store`: what a store holds and how much, what is damaged, and that nothing in use is pruned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lis.lock import RELEASED, owner
from lis.store import Artifact, Draft, Recipe, Store, pack
from lis.store.__main__ import main
from lis.store.inventory import Inventory

GONE = f"4194305.{owner().partition('.')[2]}"
"""An owner with a number beyond what a process can have."""


def fill(draft: Draft) -> None:
    draft.tensors("block", {"x": torch.arange(100.0)})
    draft.json("facts", {"n": 2})


class Example:
    """A store with two chains, pairs → link → tuning with its shards, one of which a run names; all a week old."""

    def __init__(self, folder: Path) -> None:
        self.root, self.runs = folder / "outputs" / "store", folder / "outputs"
        self.store = Store(self.root)
        self.made: dict[str, Artifact] = {}
        for name, seed in (("a", 0), ("b", 1)):
            pairs = self.make(f"pairs {name}", "pairs-train", {"seed": seed, "classes": {"n": 5}})
            link = self.make(f"link {name}", "link", {"ridge": seed / 10}, pairs)
            self.make(f"tuning {name}", "tuning", {"units": 8}, link)
            for block in range(3):
                self.make(f"shard {name}{block}", "tuning-shard", {"block": block}, link)
                self.make(f"pair shard {name}{block}", "pairs-shard", {"block": block, "seed": seed})
        self.run("2026-01-01/10-00-00", "tuning a")
        self.age(7)

    def make(self, name: str, stage: str, config: dict[str, Any], *inputs: Artifact) -> Artifact:
        """An artifact."""
        recipe = Recipe(stage, 1, config, tuple(artifact.key for artifact in inputs))
        self.made[name] = self.store.make(recipe, fill)
        return self.made[name]

    def run(self, folder: str, *names: str) -> None:
        """A run that names some artifacts."""
        (self.runs / folder).mkdir(parents=True)
        artifacts = {self.made[name].manifest["recipe"]["stage"]: self.made[name].key for name in names}
        (self.runs / folder / "summary.json").write_text(json.dumps({"artifacts": artifacts, "seconds": 1.0}))

    def age(self, days: float, *names: str) -> None:
        """Have some artifacts, or all that there is, changed so long ago."""
        then = time.time() - days * 86400
        for path in [self.made[name].path for name in names] or [self.root, *self.root.rglob("*")]:
            os.utime(path, (then, then))

    def pack(self, *names: str) -> Path:
        """Pack some artifacts."""
        path = pack(self.root, [self.made[name] for name in names])
        assert path is not None
        return path

    def left(self) -> set[str]:
        """Names of the artifacts that are there."""
        store = Store(self.root)
        return {
            name
            for name, artifact in self.made.items()
            if store.find(Recipe(**artifact.manifest["recipe"])) is not None
        }


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    """In the folder `outputs` of the working folder."""
    monkeypatch.chdir(tmp_path)
    return Example(tmp_path)


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command; what it prints as JSON."""

    def ask(*arguments: str, code: int = 0) -> Any:
        assert main([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return ask


SHARDS_A = {f"{kind} a{block}" for kind in ("shard", "pair shard") for block in range(3)}
PAIR_SHARDS_B = {f"pair shard b{block}" for block in range(3)}
CHAIN_A = {"pairs a", "link a", "tuning a"}
CHAIN_B = {"pairs b", "link b", "tuning b"}
SHARDS_B = {f"shard b{block}" for block in range(3)}


def test_ls_says_what_an_artifact_follows_from_and_what_uses_it(example: Example, asked: Callable[..., Any]) -> None:
    listed = asked("ls")
    assert {one["key"] for one in listed["artifacts"]} == {example.made[name].key for name in CHAIN_A | CHAIN_B}
    assert listed["shards"] == {"tuning-shard": 6, "pairs-shard": 6}
    link, pairs, tuning = (example.made[f"{name} a"] for name in ("link", "pairs", "tuning"))
    (fact,) = asked("ls", link.key[:12])["artifacts"]
    assert fact["inputs"] == [{"stage": "pairs-train", "key": pairs.key}] and fact["settings"] == {"ridge": 0.0}
    users = [{"stage": "tuning", "key": tuning.key}]
    users += [{"stage": "tuning-shard", "key": example.made[f"shard a{block}"].key} for block in range(3)]
    assert sorted(fact["users"], key=str) == sorted(users, key=str) and fact["runs"] == []
    assert (fact["created"], fact["device"], fact["files"]) == (link.manifest["created"], "cpu", 2)
    assert fact["size"] == sum(file.stat().st_size for file in link.path.iterdir())
    (fact,) = asked("ls", tuning.key)["artifacts"]
    assert fact["runs"] == ["outputs/2026-01-01/10-00-00"]
    (fact,) = asked("ls", pairs.key, "--runs", "outputs/store")["artifacts"]
    assert fact["settings"] == {"seed": 0, "classes.n": 5} and fact["runs"] == []


def test_ls_shows_a_table_of_what_differs(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    (example.made["link b"].path / "manifest.json").write_text("{}")
    assert main(["ls"]) == 0
    header, *lines, shards = capsys.readouterr().out.splitlines()
    assert header.split()[:7] == ["stage", "key", "made", "seconds", "device", "size", "files"]
    (first,) = [number for number, line in enumerate(lines) if example.made["link a"].key[:8] in line[:24]]
    made = example.made["link a"].manifest["created"][:16].replace("T", " ")
    for text in (made, f"pairs-train {example.made['pairs a'].key[:8]}", "ridge=0.0", "tuning-shard × 3"):
        assert text in f"{lines[first]} {lines[first + 1]}"
    (damaged,) = [line for line in lines if line.startswith("link") and "damaged" in line]
    assert example.made["link b"].key[:8] in damaged and "ridge" not in damaged
    pairs = [line for line in lines if line.startswith("pairs-train")]
    assert ["seed=0" in line for line in pairs].count(True) == 1 and "classes" not in "".join(lines)
    assert shards == "and shards: 6 pairs-shard, 6 tuning-shard"


def test_ls_of_one_shows_all_its_settings(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", example.made["pairs a"].key[:10]]) == 0
    out = capsys.readouterr().out
    assert "seed=0" in out and "classes.n=5" in out


def test_ls_of_shards_in_folders_and_packs(example: Example, asked: Callable[..., Any]) -> None:
    before = asked("ls", "tuning-shard")["artifacts"]
    path = example.pack("shard a0", "shard a1", "shard a2")
    after = asked("ls", "tuning-shard")["artifacts"]
    assert [{**one, "path": ""} for one in after] == [{**one, "path": ""} for one in before]
    packed = {example.made[f"shard a{block}"].key for block in range(3)}
    relative = path.relative_to(Path.cwd())
    assert {one["path"] for one in after if one["key"] in packed} == {str(relative / key) for key in packed}


def test_keys_are_as_long_as_it_takes_to_tell_them_apart(example: Example) -> None:
    assert Inventory(example.root).digits == 8
    for key in ("abcdef0123" + "0" * 22, "abcdef0124" + "0" * 22):
        (example.root / "link" / key).mkdir()
    assert Inventory(example.root).digits == 10


def test_du_counts_bytes_and_files(example: Example, asked: Callable[..., Any]) -> None:
    path = example.pack("shard a0", "shard a1", "shard a2")
    (example.root / "set-aside" / "x").mkdir(parents=True)
    (example.root / "set-aside" / "x" / "file").write_bytes(bytes(1234))
    usage = {row["stage"]: row for row in asked("du")["stages"]}
    loose = [file for block in range(3) for file in example.made[f"shard b{block}"].path.iterdir()]
    size = sum(file.stat().st_size for file in loose) + path.stat().st_size
    assert usage["tuning-shard"] == {"stage": "tuning-shard", "loose": 3, "packed": 3, "bytes": size, "inodes": 13}
    assert usage["link"]["inodes"] == 8 and usage["(set-aside)"]["bytes"] == 1234
    total = asked("du")["total"]
    assert total["loose"] == 15 and total["packed"] == 3
    assert total["bytes"] == sum(row["bytes"] for row in usage.values())


def test_du_shows_a_table(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    example.pack("shard a0", "shard a1")
    assert main(["du", "--store", str(example.root)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["stage", "loose", "packed", "size", "inodes"] and lines[-1][:3] == ["total", "16", "2"]
    assert next(line for line in lines if line[0] == "tuning-shard")[1:3] == ["4", "2"]


def flip(file: Path, marker: bytes) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(marker)] ^= 1
    file.write_bytes(content)


def test_verify_names_what_is_damaged(
    example: Example, asked: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    packed = example.pack("shard a0", "shard a1", "shard a2")
    torn = example.pack("shard b0", "shard b1", "shard b2")
    assert asked("verify") == {"artifacts": 18, "damaged": {}}
    flip(example.made["link a"].path / "facts.json", b"n")
    flip(packed, b'"n": 2')
    torn.write_bytes(torn.read_bytes()[:-1])
    damaged = asked("verify", code=1)["damaged"]
    (member,) = [path for path in damaged if ".zip/" in path]
    link = os.path.relpath(example.made["link a"].path)
    assert set(damaged) == {link, member, os.path.relpath(torn)}
    assert damaged[link].startswith(f"{link}/facts.json does not have the checksum")
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "15 artifacts verified, 3 damaged" in out and f"{member}/facts.json does not have the checksum" in out


def test_verify_does_not_call_damaged_what_goes_meanwhile(
    example: Example, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(root: Path) -> Inventory:
        inventory = Inventory(root)
        example.pack("shard a0", "shard a1", "shard a2")
        return inventory

    monkeypatch.setattr("lis.store.__main__.Inventory", late)
    assert asked("verify")["damaged"] == {}


def test_prune_removes_what_no_run_follows_from(example: Example, asked: Callable[..., Any]) -> None:
    """Shards of what goes go too; those that follow from nothing stay."""
    told = asked("prune")
    assert example.left() == set(example.made) and not told["removed"]
    done = asked("prune", "--yes")
    assert done == {**told, "removed": True}
    assert {Path(one["path"]).name for one in done["removals"]} == {
        example.made[name].key for name in CHAIN_B | SHARDS_B
    }
    assert example.left() == CHAIN_A | SHARDS_A | PAIR_SHARDS_B
    assert asked("prune")["removals"] == [] and not [*(example.root / "drafts").rglob("*@*")]


def test_prune_tells_room_and_reason(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (link,) = [line for line in lines if line.startswith("link ")]
    size = sum(file.stat().st_size for file in example.made["link b"].path.iterdir())
    assert "no run names it, nor anything made from it" in link and f"{size / 1000:.1f} kB" in link
    assert link.split()[-2:] == ["4", example.made["link b"].key[:8]]
    assert lines[-1].startswith("6 of ") and lines[-1].endswith(" in 24 files and folders would go; --yes removes them")
    main(["prune", "--yes"])
    assert capsys.readouterr().out.endswith(" in 24 files and folders removed\n")
    main(["prune", "--yes"])
    assert capsys.readouterr().out == "there is nothing to remove\n"


def test_what_is_young_stays_with_all_that_it_follows_from(example: Example, asked: Callable[..., Any]) -> None:
    """As of a run that is at work for days, and has no summary yet: shards are young, their link is not."""
    example.age(0.5, "shard b1")
    asked("prune", "--yes")
    assert example.left() == set(example.made) - {"tuning b"}
    asked("prune", "--yes", "--older", "0.4")
    assert example.left() == CHAIN_A | SHARDS_A | PAIR_SHARDS_B


def lock(example: Example, name: str, text: str) -> Path:
    artifact = example.made[name]
    path = example.root / "locks" / artifact.manifest["recipe"]["stage"] / artifact.key
    path.mkdir(parents=True)
    (path / "0").write_text("of an earlier owner")
    (path / "1").write_text(text)
    return path


def draft(example: Example, name: str, of: str) -> Path:
    artifact = example.made[name]
    path = example.root / "drafts" / artifact.manifest["recipe"]["stage"] / f"{artifact.key}@{of}@01234567"
    path.mkdir(parents=True)
    (path / "half.json").write_text("{}")
    return path


@pytest.mark.parametrize("kind", [lock, draft])
def test_what_the_living_make_stays(kind: Callable[..., Path], example: Example, asked: Callable[..., Any]) -> None:
    """Of a living owner, and what it follows from."""
    path = kind(example, "link b", f"{owner()}\n0.1.0" if kind is lock else owner())
    asked("prune", "--yes", "--older", "0")
    assert path.exists() and example.left() == set(example.made) - {"tuning b"}


def test_what_something_new_is_made_from_stays(example: Example, asked: Callable[..., Any]) -> None:
    """A run has just begun with a stage that the store does not hold yet."""
    inputs = (example.made["link b"].key,)
    store = Store(example.root)

    def build(draft: Draft) -> None:
        asked("prune", "--yes", "--older", "0")
        draft.json("x", {})

    artifact = store.make(Recipe("new", 1, {}, inputs), build)
    assert set(artifact.manifest["files"]) == {"x.json"}
    assert {"link b", "pairs b"} <= example.left()


@pytest.mark.parametrize(
    ("kind", "text"),
    [(lock, f"{GONE}\n0.1.0"), (lock, RELEASED), (draft, GONE)],
    ids=["lock", "released lock", "draft"],
)
def test_what_the_dead_left_goes(
    kind: Callable[..., Path], text: str, example: Example, asked: Callable[..., Any]
) -> None:
    path = kind(example, "link b", text)
    (removal,) = [one for one in asked("prune")["removals"] if one["stage"] in ("drafts", "locks")]
    assert removal["path"] == os.path.relpath(path) and path.exists()
    assert removal["inodes"] == len([*path.iterdir()]) + 1
    asked("prune", "--yes")
    assert not path.exists() and "link b" not in example.left()


def test_what_was_set_aside_goes_when_it_is_old(example: Example, asked: Callable[..., Any]) -> None:
    aside = [example.root / "set-aside" / name for name in ("old", "young")]
    for path in aside:
        path.mkdir(parents=True)
    os.utime(aside[0], (0, 0))
    asked("prune", "--yes")
    assert [path.exists() for path in aside] == [False, True]


def test_shards_go_when_they_are_asked_for(example: Example, asked: Callable[..., Any]) -> None:
    """Loose and packed; none of those that follow from the same as a young one."""
    path = example.pack("shard a0", "shard a1")
    example.age(7)
    example.age(0.5, "pair shard a0")
    done = asked("prune", "--yes", "--shards")["removals"]
    (packed,) = [one for one in done if one["path"] == os.path.relpath(path)]
    assert (packed["artifacts"], packed["inodes"], packed["stage"]) == (2, 1, "tuning-shard")
    assert packed["reason"] == "shard: only a run that goes on or wants more would read it"
    assert not path.exists()
    assert example.left() == CHAIN_A | {f"pair shard {name}{block}" for name in "ab" for block in range(3)}


def test_a_pack_stays_whole_for_one_that_is_needed(example: Example, asked: Callable[..., Any]) -> None:
    example.pack("shard a0", "shard b0")
    example.age(7)
    asked("prune", "--yes")
    assert example.left() == CHAIN_A | SHARDS_A | PAIR_SHARDS_B | {"shard b0"}


def test_a_loose_copy_of_what_is_packed_goes(example: Example, asked: Callable[..., Any]) -> None:
    """But not where the pack's is damaged, and none of what only looks packed."""
    names = ("shard a0", "shard a1", "shard a2")
    copies = {name: {file.name: file.read_bytes() for file in example.made[name].path.iterdir()} for name in names}
    path = example.pack(*names)
    for name in names:
        example.made[name].path.mkdir()
        for file, content in copies[name].items():
            (example.made[name].path / file).write_bytes(content)
    flip(path, b'"block": 2')
    goes = asked("prune", "--all", "--older", "3", "--yes")["removals"]
    copied = {one["path"] for one in goes if one["reason"] == "copy of a packed shard"}
    assert copied == {os.path.relpath(example.made[name].path) for name in names[:2]}
    assert {"shard a0", "shard a1", "shard a2"} <= example.left()


def test_a_pack_that_cannot_be_read_goes_when_it_is_old(example: Example, asked: Callable[..., Any]) -> None:
    path = example.root / "tuning-shard" / "packs" / "0.zip"
    path.parent.mkdir()
    path.write_text("no zip")
    assert [one for one in asked("prune", "--yes")["removals"] if "read" in one["reason"]] == [] and path.exists()
    os.utime(path, (0, 0))
    asked("prune", "--yes")
    assert not path.exists()


def test_what_is_damaged_or_not_of_the_store_stays(example: Example, asked: Callable[..., Any]) -> None:
    (example.made["link b"].path / "manifest.json").write_text("{}")
    mine = example.root / "link" / "notes"
    mine.mkdir()
    other = example.root / "mine" / ("0" * 32)
    other.mkdir(parents=True)
    asked("prune", "--yes", "--all", "--older", "0", "--shards")
    assert example.made["link b"].path.exists() and mine.exists() and other.exists()


def test_runs_in_several_folders_and_sweeps_count(example: Example, asked: Callable[..., Any]) -> None:
    example.run("multirun/2026-01-01/10-00-00/0", "link b")
    asked("prune", "--yes")
    assert example.left() == set(example.made) - {"tuning b"}
    example.run("../elsewhere/run", "pairs b")
    (example.runs / "multirun/2026-01-01/10-00-00/0/summary.json").unlink()
    asked("prune", "--yes", "--runs", "outputs", "--runs", "elsewhere")
    assert example.left() == CHAIN_A | SHARDS_A | PAIR_SHARDS_B | {"pairs b"}


def test_without_runs_nothing_is_pruned_unless_all_is_meant(
    example: Example, asked: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (example.runs / "empty").mkdir()
    (example.runs / "empty" / "summary.json").write_text('{"of": "another program"}')
    assert main(["prune", "--yes", "--runs", "outputs/empty"]) == 2
    assert "no run in outputs/empty, so that all would go" in capsys.readouterr().err.replace("\n", " ")
    assert example.left() == set(example.made)
    asked("prune", "--yes", "--all", "--runs", "outputs/empty")
    assert example.left() == {name for name in example.made if name.startswith("pair shard")}


def test_what_the_system_refuses_to_remove_is_told(
    example: Example, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replace, refused = Path.replace, os.path.relpath(example.made["link b"].path)

    def refuse(path: Path, target: Path) -> Path:
        if path == Path(refused):
            raise PermissionError(13, "Permission denied", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert asked("prune", "--yes", code=1)["refused"] == [refused]
    assert f"{refused} cannot be removed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ls", "zebra"], "'zebra' is no stage of outputs/store, and no key begins so; stages: link, pairs-shard"),
        (["ls", ""], "18 keys begin with '': expected more digits of one, as of "),
        (["du", "--store", "nowhere"], "nowhere is no store: expected the folder that runs write to"),
        (["verify", "--store", "outputs/2026-01-01"], "outputs/2026-01-01 is no store"),
        (["prune", "--store", "outputs"], "outputs is no store, but one may lie in it: expected --store outputs/store"),
        (["prune", "--runs", "nowhere"], "nowhere is not there: expected a folder with runs"),
        (["prune", "--runs", "broken"], "broken/summary.json cannot be read (Expecting value"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    arguments: list[str], reason: str, example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken").mkdir()
    Path("broken", "summary.json").write_text("half")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith(reason)


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "many"])
def test_days_are_a_number(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["prune", "--older", days])
    assert error.value.code == 2 and "--older" in capsys.readouterr().err


def test_the_program_needs_neither_torch_nor_pandas(example: Example) -> None:
    """It starts in a tenth of a second, not in three."""
    code = "import sys, runpy; sys.argv = ['store', 'du']\ntry: runpy.run_module('lis.store', run_name='__main__')\n"
    code += "finally: print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "set()", done
    assert "tuning-shard" in done.stdout
