"""Counterfactuals beside steps in pixels: the stage on the fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in

from lis.boundary import adversarial
from lis.boundary.adversarial import AdversarialConfig, difference
from lis.config import CounterfactualsConfig
from lis.context import Context
from lis.images import to_uint8
from lis.report.tables import records, where
from lis.store import Artifact, Recipe
from lis.streams import Stream

PAIRS = (("ant", "bee"), ("bee", "cat"), ("cat", "ant"))


def context(root: Path, samples: int | None = 2) -> Context:
    generator = FakeGenerator()
    settings: Any = {"adversarial": AdversarialConfig(samples=samples, step=0.01, max_steps=300)}
    settings["counterfactuals"] = CounterfactualsConfig(trajectories=2)
    return make_context(root, generator, FakeClassifier(generator), **settings)


def found(ctx: Context, good: bool = True) -> Artifact:
    """Counterfactuals that go half of the way, and a bit more, to the same z in another class; every third fails."""
    rows, codes = [], []
    generator: Any = ctx.generator
    for origin, target in PAIRS:
        o, t, index = NAMES.index(origin), NAMES.index(target), torch.arange(4)
        first = generator.sample(o, index, Stream("test pairs"))
        last = first + 0.6 * (generator.counterpart(o, index, Stream("test pairs"), t) - first)
        p = ctx.classifier.head(ctx.classifier.features(generator.synthesize(last))).softmax(1)[:, t]
        pair = {"origin": origin, "target": target}
        rows += [pair | {"sample_index": k, "probability": float(p[k]), "success": good and k != 1} for k in range(4)]
        codes.append((first, last))
    tensors = {"w_original": torch.cat([a for a, _ in codes]), "w": torch.cat([b for _, b in codes])}

    def build(draft: Any) -> None:
        draft.table("counterfactuals", pd.DataFrame(rows))
        draft.tensors("counterfactuals", tensors)

    return ctx.store.make(Recipe("made-up", 1, {"good": good}), build)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Context, Artifact, Artifact]:
    ctx = context(tmp_path)
    made = found(ctx)
    stand_in(monkeypatch, "counterfactuals", lambda _: made)
    return ctx, made, adversarial.adversarial(ctx)


def test_the_first_that_succeeded_are_moved_to_the_same_probability(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, made, artifact = run
    table, codes = artifact.table("adversarial"), made.tensors("counterfactuals")
    assert table[["origin", "target", "sample_index"]].to_numpy().tolist() == [
        [*pair, k] for pair in PAIRS for k in (0, 2)
    ]
    assert table["reached"].to_numpy().all()
    np.testing.assert_allclose(table["probability"], table["goal"], atol=1e-3)
    for row in records(table):
        images = [ctx.generator.synthesize(codes[name][row["row"], None]) for name in ("w_original", "w")]
        assert row["mse_counterfactual"] == pytest.approx(float(difference(*images)["mse"]), rel=1e-4)
        assert 0 < row["mse_adversarial"] <= 1.5 * row["mse_counterfactual"]
        assert row["seen"] == (row["cycled"] == row["target"])
    facts = artifact.json("facts")
    assert facts["n"] == 6 and facts["reached"] == 1 and facts["seen"] == pytest.approx(table["seen"].mean())


def test_shown_are_the_first_of_the_first_pairs(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, made, artifact = run
    shown, tensors = artifact.table("examples"), artifact.tensors("examples")
    assert shown["row"].tolist() == [0, 2] and shown["target"].tolist() == ["bee", "cat"]
    own = made.tensors("counterfactuals")["w"][records(where(artifact.table("adversarial"), target="cat"))[0]["row"]]
    assert torch.equal(tensors["image"][1, 1], to_uint8(ctx.generator.synthesize(own[None]))[0])
    moved = tensors["difference"][1, 1].square().mean()
    assert float(moved) == pytest.approx(artifact.table("adversarial")["mse_adversarial"][2], rel=1e-4)


def test_without_a_limit_all_are_moved_and_what_is_there_is_the_same(
    run: tuple[Context, Artifact, Artifact], tmp_path: Path
) -> None:
    whole = adversarial.adversarial(context(tmp_path, samples=None)).table("adversarial")
    few = run[2].table("adversarial")
    assert len(whole) == 9
    same = pd.DataFrame(whole[whole["sample_index"] < 3]).reset_index(drop=True)
    pd.testing.assert_frame_equal(same, few, rtol=1e-3, atol=1e-5)


def test_where_none_succeeded_the_tables_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path)
    made = found(ctx, good=False)
    stand_in(monkeypatch, "counterfactuals", lambda _: made)
    artifact = adversarial.adversarial(ctx)
    assert artifact.table("adversarial").empty and artifact.table("examples").empty and artifact.json("facts")["n"] == 0
