"""The reproducibility card: what it tells follows from the artifacts, and nothing of the machine is in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import findings

import lis
from lis.config import ClassifierConfig, NetworkConfig, PlantedConfig, StyleGANXLConfig
from lis.report import reproducibility as module
from lis.report.page import write_report
from lis.report.reproducibility import card, checkout, licence, lineage, versions, without_paths
from lis.report.source import source
from lis.store import Artifact, Draft, Recipe, Store


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return findings.make_artifacts(tmp_path_factory.mktemp("store"))


def changed(artifact: Artifact, **manifest: Any) -> Artifact:
    """An artifact that says something else of how it was made."""
    return replace(artifact, manifest={**artifact.manifest, **manifest})


def test_everything_that_a_run_rests_on_is_told_once_inputs_first(tmp_path: Path) -> None:
    def fill(draft: Draft) -> None:
        draft.json("facts", {})

    ctx = findings.make_ctx(tmp_path)
    train = ctx.store.make(Recipe("pairs-train", 1, {}), fill)
    link = ctx.store.make(Recipe("link", 1, {}, (train.key,)), fill)
    tuning = ctx.store.make(Recipe("tuning", 1, {}, (link.key, train.key)), fill)
    asked = {"tuning": tuning, "link": link}
    expected = [("pairs/train", train.key, train), ("link", link.key, link), ("tuning", tuning.key, tuning)]
    assert [*lineage(ctx, asked)] == expected
    ctx.store = Store(tmp_path / "another")  # which has read nothing
    assert [*lineage(ctx, asked)] == [("", train.key, None), *expected[1:]]
    table = next(iter(card(ctx, source(ctx, {"tuning": tuning})).tables.values()))
    assert table.rows[0] == ["", *["–"] * 6, link.key[:12]] and table.rows[2][0] == "tuning"


def test_artifacts_that_were_made_with_something_else_are_named(tmp_path: Path, artifacts: dict[str, Artifact]) -> None:
    """Versions, device and determinism of each artifact are those of its manifest, not of this run."""
    ctx = findings.make_ctx(tmp_path, deterministic=True)
    now = {"versions": versions() | {"lis": lis.__version__}, "deterministic": True}
    asked = {name: changed(artifact, **now) for name, artifact in artifacts.items()}
    assert card(ctx, source(ctx, asked)).notes == []
    asked["link"] = changed(artifacts["link"], versions={"torch": "1.0", "lis": lis.__version__}, deterministic=True)
    asked["similarity"] = changed(artifacts["similarity"], device="H200", **now)
    asked["evaluation"] = changed(artifacts["evaluation"], **now | {"deterministic": False})
    made = card(ctx, source(ctx, asked))
    assert made.notes == [
        "Made with other versions than are installed here: link.",
        "Made on another device: similarity.",
        "Made before, without deterministic=true: evaluation.",
    ]
    table = next(iter(made.tables.values()))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["link"]["versions"] == "torch 1.0" and rows["pairs/test"]["versions"] == "as installed"
    assert rows["similarity"]["device"] == "H200"
    created = artifacts["link"].manifest["created"]
    assert rows["link"]["made (UTC)"] == created[:16].replace("T", " ")
    assert rows["link"]["key"] == artifacts["link"].key[:12] and rows["link"]["images"] == "–"  # of no generator of lis


def test_an_artifact_of_an_older_version_says_what_it_knows(tmp_path: Path, artifacts: dict[str, Artifact]) -> None:
    manifest = {key: artifacts["link"].manifest[key] for key in ("recipe", "versions", "created", "seconds", "device")}
    ctx, old = findings.make_ctx(tmp_path), replace(artifacts["link"], manifest=manifest | {"files": {}})
    (row,) = next(iter(card(ctx, source(ctx, {"link": old})).tables.values())).rows
    assert row[0] == "link" and row[4] == "cpu" and row[3] == row[5] == "–"


def test_the_card_of_the_same_artifacts_is_the_same(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = findings.make_ctx(tmp_path)
    first = card(ctx, source(ctx, artifacts))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    try:
        assert card(ctx, source(ctx, artifacts)) == first
    finally:
        torch.set_num_threads(1)


def test_no_path_of_the_machine_is_on_the_page(tmp_path: Path, artifacts: dict[str, Artifact]) -> None:
    """Nor in the file beside it; the settings of a run hold its paths as they are."""
    ctx = findings.make_ctx(tmp_path, images=str(tmp_path / "pictures"), labels__folder=str(Path.home() / "labels"))
    page = write_report(ctx, {"link": artifacts["link"]}, tmp_path / "out")
    for text in (page.read_text("utf-8"), (page.parent / "reproducibility.json").read_text("utf-8")):
        assert "…/pictures" in text and "…/labels" in text and "…/store" in text
        assert str(tmp_path) not in text and str(Path.home() / "") not in text
    facts = json.loads((page.parent / "reproducibility.json").read_text("utf-8"))
    assert facts["settings"]["pairs.train"] == 40 and facts["versions"]["torch"] == torch.__version__
    section = re.search(r'<section id="reproducibility">.*?</section>', page.read_text("utf-8"), re.DOTALL)
    assert section is not None and section[0].count("<details") == 4 and "images: …/pictures" in section[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("images=/home/ada/my.pictures", "images=…/my.pictures"),
        ("images='/home/ada/a,b'", "images='…/a,b'"),
        ("~/gan.pkl", "…/gan.pkl"),
        ("~ada/gan.pkl", "…/gan.pkl"),
        ("/gan.pkl", "…/gan.pkl"),
        ("/Users/Ada Lovelace/my nets/a b=1.pt", "…/a b=1.pt"),
        ("classifier.weights=/Users/Ada Lovelace/my nets/a b=1.pt", "classifier.weights=…/a b=1.pt"),
        ("~counterfactuals.witness", "~counterfactuals.witness"),
        ("[/a/b.pt,/c/d.pt]", "[…/b.pt,…/d.pt]"),
        ("photos/mine", "photos/mine"),
        ("../shared/x", "../shared/x"),
        ("https://example.org/a/b.pkl", "https://example.org/a/b.pkl"),
        ("direction=pc:1", "direction=pc:1"),
        ("1/2", "1/2"),
    ],
)
def test_of_a_path_only_its_last_part_is_told(text: str, shown: str) -> None:
    assert without_paths(text) == shown == without_paths(shown) and without_paths([text, 3]) == [shown, 3]


def test_what_is_known_of_licences() -> None:
    assert licence(PlantedConfig()) == "MIT, a part of lis"
    assert licence(NetworkConfig(model="resnet50", weights="pretrained")) == "not stated"
    lite = NetworkConfig(library="efficientnet_lite0", model="tf_efficientnet_lite0.in1k", weights="pretrained")
    assert licence(lite) == "apache-2.0"
    assert licence(NetworkConfig(model="resnet50", weights="a.pt")) == "unknown: a file of the user's"
    assert licence(StyleGANXLConfig(weights="published")).startswith("unknown")
    assert licence(StyleGANXLConfig(weights="random")) == "none needed: no weights of others"
    assert licence(ClassifierConfig(_target_="my.Network")) == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    """A package that lies inside of another repository, as an environment of it, is no checkout."""
    package = tmp_path / "lis"
    package.mkdir()
    (package / "__init__.py").touch()

    def git(*command: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *author, *command], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    assert checkout.__wrapped__(package) == (None, None)
    git("add", ".")
    git("commit", "-qm", "one")
    assert checkout.__wrapped__(package) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "notes.txt").touch()  # not of the program
    assert checkout.__wrapped__(package)[1] is False
    (package / "__init__.py").write_text("a = 1\n")
    assert checkout.__wrapped__(package)[1] is True


def test_without_git_the_commit_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert checkout.__wrapped__(tmp_path) == (None, None)
