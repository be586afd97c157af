"""The stages of counterfactuals on small exact models: what they hold, whatever the shards, and when they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from torch import Tensor
from torch.nn import functional as F

from lis.boundary import searches
from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.initialisations import initialisations
from lis.boundary.searches import STARTS, class_pairs, search_key, starts, validate_counterfactual
from lis.boundary.sparse_counterfactuals import sparse_counterfactuals
from lis.boundary.trajectories import trajectories
from lis.config import CounterfactualsConfig
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.linking.region import ClassRegion
from lis.quantify.sparsity import hoyer
from lis.stage import Stage
from lis.store import Artifact

SIZES: dict[str, Any] = {  # small logits: with λ₂ = 10 the picture would stay what it is
    "samples": 3,
    "trajectories": 2,
    "steps": 7,
    "initialisations": 3,
    "diversity_samples": 2,
    "l1_samples": 3,
    "l1_sweep": [0.4, 0.0],
    "max_steps": 200,
    "lambda2": 0.1,
}


def context(root: Path, **overrides: Any) -> Context:
    sizes = SIZES | {key: overrides.pop(key) for key in list(overrides) if key in CounterfactualsConfig.__annotations__}
    return make_context(root, counterfactuals=CounterfactualsConfig(**sizes), **overrides)


def frame(artifact: Artifact, name: str) -> Any:
    """A table, whose columns' types nobody knows."""
    return artifact.table(name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    ctx = context(tmp_path_factory.mktemp("run"))
    return ctx, counterfactuals(ctx)


def answers(ctx: Context, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w̃, r̃ and probabilities of single activations, in plain steps."""
    w = load_link(link(ctx))(r)
    encoded = ctx.classifier.features(ctx.generator.synthesize(w))
    return w, encoded, ctx.classifier.head(encoded).softmax(1)


def test_every_pair_and_sample_is_a_row(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    table = frame(artifact, "counterfactuals")
    wanted = [(NAMES[a], NAMES[b]) for a, b in class_pairs(ctx.config) for _ in range(3)]
    assert list(zip(table["origin"], table["target"], strict=True)) == wanted and len(set(wanted)) == 6
    test = pairs(ctx, "test").tensors("pairs")
    for row, (origin, r) in enumerate(
        zip(table["origin_index"], artifact.tensors("counterfactuals")["r"], strict=True)
    ):
        own = test["r"][test["class_index"] == origin]
        assert r.equal(own[row % 3])
    assert artifact.json("facts")["nonnegative"] and artifact.json("facts")["class_names"] == list(NAMES)


def test_the_full_cycle_ends_in_the_target(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    table, tensors = frame(artifact, "counterfactuals"), artifact.tensors("counterfactuals")
    assert table["success"].all() and (table["reason"] == "").all() and table["steps"].max() > 0
    moved = tensors["r"] + tensors["shift"]
    assert moved.min() >= 0
    w, encoded, probability = answers(ctx, moved)
    torch.testing.assert_close(tensors["w"], w)
    torch.testing.assert_close(tensors["reencoded"], encoded)
    target = torch.tensor(np.array(table["target_index"]))
    assert probability.argmax(1).equal(target) and table["after"].tolist() == table["target"].tolist()
    np.testing.assert_allclose(table["probability"], probability.gather(1, target[:, None])[:, 0], rtol=1e-4)
    first, before, _ = answers(ctx, tensors["r"])
    torch.testing.assert_close(tensors["reencoded_original"], before)
    np.testing.assert_allclose(table["r_distance"], (moved - tensors["r"]).norm(dim=1), rtol=1e-4)
    np.testing.assert_allclose(table["reencoded_distance"], (encoded - before).norm(dim=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table["w_distance"], (w - first).norm(dim=1), rtol=1e-4)
    np.testing.assert_allclose(table["w_cosine"], F.cosine_similarity(w, first), rtol=1e-4)


def test_the_boundary_is_where_the_answer_changes(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    table, tensors = frame(artifact, "counterfactuals"), artifact.tensors("counterfactuals")
    known = np.flatnonzero(table["boundary"].notna())
    assert len(known) > 12
    for row in known:
        t, target = float(table["boundary"][row]), int(table["target_index"][row])
        moved = [tensors["r"][row] + (t + step) * tensors["shift"][row] for step in (-1e-3, 1e-3)]
        before, after = answers(ctx, torch.stack(moved).clamp(min=0))[2].argmax(1).tolist()
        assert before != target and after == target
    others = table[table["boundary"].isna()]
    assert (others["before"] == others["target"]).all()


def test_a_row_per_pair_of_classes(run: tuple[Context, Artifact]) -> None:
    artifact = run[1]
    table, summary = frame(artifact, "counterfactuals"), frame(artifact, "pairs")
    assert len(summary) == 7 and summary["target"].tolist()[-1] == "all" and (summary["rate"] == 1).all()
    for _, row in summary.iloc[:-1].iterrows():
        own = table[(table["origin"] == row["origin"]) & (table["target"] == row["target"])]
        assert row["n"] == 3 and row["steps"] == own["steps"].median()
        assert row["w_distance"] == pytest.approx(own["w_distance"].mean())


def test_no_shard_or_batch_changes_a_result(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    other = counterfactuals(context(tmp_path, sample_block=2, batch_size=1))
    ours, theirs = frame(artifact, "counterfactuals"), frame(other, "counterfactuals")
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(
        artifact.tensors("counterfactuals"), other.tensors("counterfactuals"), rtol=1e-3, atol=1e-3
    )
    for same in ({"sample_block": 2}, {"trajectories": 1}, {"initialisations": 5}):
        assert counterfactuals(context(Path(ctx.config.store).parent, **same)).key == artifact.key


@pytest.mark.usefixtures("no_tensor_is_an_index")
def test_a_single_counterfactual_is_a_row(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx = context(tmp_path, pairs=["ant-bee"], samples=1, l1_samples=1, diversity_samples=1, l1_sweep=[0.0])
    whole, one = frame(run[1], "counterfactuals"), frame(counterfactuals(ctx), "counterfactuals")
    pd.testing.assert_frame_equal(one, whole.iloc[:1], rtol=1e-3, atol=2e-3)
    assert one[["origin", "target", "after"]].to_numpy().tolist() == [["ant", "bee", "bee"]]
    assert len(frame(sparse_counterfactuals(ctx), "sweep")) == 1
    assert len(frame(initialisations(ctx), "agreement")) == 1


def test_a_run_that_was_killed_goes_on_with_its_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, seen = context(tmp_path), list[int]()
    plain = searches.search

    def killed(*args: Any) -> Any:
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(searches, "search", killed)
    with pytest.raises(KeyboardInterrupt):
        counterfactuals(ctx)
    counterfactuals(context(tmp_path))
    assert len(seen) == 4 + 3  # of six pairs, three were there


def test_what_fails_is_a_row(tmp_path: Path) -> None:
    artifact = counterfactuals(context(tmp_path, optimizer="published", learning_rate=1e-6, max_steps=2, start=0.0))
    table = frame(artifact, "counterfactuals")
    failed = table[~table["success"]]
    assert len(failed) > 12 and failed["reason"].str.contains("after 2 steps").all()
    assert (failed["steps"] == 2).all() and failed["boundary"].isna().all()
    assert (failed["after"] != failed["target"]).all()
    summary = frame(artifact, "pairs")
    assert summary["reached"].iloc[-1] == table["success"].sum() and artifact.json("facts")["rate"] < 0.5


def test_starts_are_addressed_by_pair_and_sample() -> None:
    sample = torch.tensor([3, 8])
    draws = starts(0, "published", 2.0, (0, 1), sample, 4, 5000)
    assert draws.shape == (2, 4, 5000) and draws.min() >= 0 and 1.99 < draws.max() < 2
    assert draws.mean() == pytest.approx(1, abs=0.02)
    assert starts(0, "published", 2.0, (0, 1), sample[1:], 2, 5000)[0].equal(draws[1, :2])
    others = [starts(0, "published", 2.0, pair, sample, 4, 50) for pair in ((1, 0), (0, 2))]
    assert not any(other.eq(draws[..., :50]).any() for other in others)
    signed = starts(1, "natural", 0.5, (0, 1), sample, 1, 5000)
    assert signed.min() < -0.49 and signed.max() > 0.49 and STARTS > 1000


def test_many_starts(tmp_path: Path) -> None:
    ctx = context(tmp_path, optimizer="published", learning_rate=0.05, start=0.5)
    artifact = initialisations(ctx)
    table = frame(artifact, "sparsity")
    direction = artifact.tensors("directions")["direction"]
    assert len(table) == 6 * 2 * 3 and table["initialisation"].tolist()[:4] == [0, 1, 2, 0]
    np.testing.assert_allclose(table["sparsity"], hoyer(direction), rtol=1e-5, equal_nan=True)
    assert direction.isnan().all(1).numpy().tolist() == (~table["success"]).tolist()
    agreement = frame(artifact, "agreement")
    assert len(agreement) == 12
    row = agreement[agreement["n"] == 3].iloc[0]
    keys = ["origin", "target", "sample_index"]
    own = [k for k, key in enumerate(table[keys].to_numpy().tolist()) if key == row[keys].tolist()]
    vectors = direction[own]
    couples = [(0, 1), (0, 2), (1, 2)]
    cosines = [float(F.cosine_similarity(vectors[a], vectors[b], dim=0)) for a, b in couples]
    assert row["cosine"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert (row["cosine_low"], row["cosine_high"]) == pytest.approx((min(cosines), max(cosines)), abs=1e-5)
    heads = [set(vector.abs().topk(10).indices.tolist()) for vector in vectors]
    assert row["shared"] == pytest.approx(np.mean([len(heads[a] & heads[b]) / 10 for a, b in couples]))
    units = frame(artifact, "units")
    assert units.groupby(["origin", "target"]).size().max() == 10 and units["share"].between(0, 1).all()
    assert frame(artifact, "pair_sparsity")["n"].sum() == table["success"].sum()


def test_a_penalty_moves_fewer_units_to_the_same_target(tmp_path: Path) -> None:
    artifact = sparse_counterfactuals(context(tmp_path))
    sweep, summary = frame(artifact, "sweep"), frame(artifact, "summary")
    assert summary["l1"].tolist() == [0.0, 0.4] and summary["n"].tolist() == [18, 18]
    assert summary["units"][1] < summary["units"][0] and summary["rate"][0] == 1
    good: Any = sweep[sweep["success"] & (sweep["l1"] == 0.4)]
    assert summary["rate"][1] == pytest.approx(len(good) / 18) and len(good)
    assert summary["probability"][1] == pytest.approx(good["probability"].mean())


@pytest.mark.parametrize("objective", ["link", "image"])
def test_a_search_that_is_held_near_the_target_s_samples_ends_nearer(objective: str, tmp_path: Path) -> None:
    held = {near: context(tmp_path, objective=objective, near=near) for near in (None, 1.0)}
    away = {}
    for near, ctx in held.items():
        artifact, train = counterfactuals(ctx), pairs(ctx, "train").tensors("pairs")
        table, w = frame(artifact, "counterfactuals"), artifact.tensors("counterfactuals")["w"]
        regions = [ClassRegion.of(train["w"][train["class_index"] == k], name) for k, name in enumerate(NAMES)]
        away[near] = [float(regions[k].distance(x[None])) for k, x in zip(table["target_index"], w, strict=True)]
        assert table["success"].sum() >= 17 and artifact.json("facts").get("near") == near
    assert np.mean(away[1.0]) < 0.9 * np.mean(away[None])


@pytest.mark.parametrize("made", [counterfactuals, sparse_counterfactuals, initialisations, trajectories])
def test_the_weight_is_in_the_key_of_every_search_where_it_is_given(made: Stage, tmp_path: Path) -> None:
    keys = [made.recipe(context(tmp_path, near=near), ()).key for near in (None, None, 0.1, 0.2)]
    assert keys[0] == keys[1] and len(set(keys)) == 3
    assert "near" not in search_key(context(tmp_path), "samples")["settings"]


def test_a_class_with_too_few_pairs_to_be_held_near_is_refused_before_a_search(tmp_path: Path) -> None:
    wide = FakeGenerator(w_dim=16, factors=12)
    assert counterfactuals(context(tmp_path, generator=wide, pairs__train=12, near=None))
    with pytest.raises(ValueError, match=r"ant.: w of its 12 training pairs varies along 11 axes.*pairs\.train"):
        counterfactuals(context(tmp_path, generator=wide, pairs__train=12, near=0.1))


def test_a_classifier_with_negative_activations_is_left_free(tmp_path: Path) -> None:
    class Signed(FakeClassifier):
        """Its activations are not rectified."""

        def features(self, image: Tensor) -> Tensor:
            projected = image.flatten(1) @ self.projection.T
            return torch.cat([projected, -projected], 1)

    generator = FakeGenerator()
    artifact = counterfactuals(context(tmp_path, generator=generator, classifier=Signed(generator)))
    assert not artifact.json("facts")["nonnegative"] and artifact.json("facts")["rate"] > 0.8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"class_names": ("ant",)}, r"needs two classes: classes.names has 1 \(ant\)"),
        ({"pairs": ["ant-dog"]}, "counterfactuals.pairs=ant-dog: expected <from>-<to>"),
        ({"pairs": ["ant-bee", "ant-bee"]}, "every pair once"),
        ({"pairs": []}, "counterfactuals.pairs is empty"),
        ({"samples": 21}, "counterfactuals.samples=21: expected at most pairs.test=20"),
    ],
)
def test_bad_wishes_are_found_before_any_work(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        validate_counterfactual(context(tmp_path, **overrides).config)


def test_named_pairs_come_in_their_order(tmp_path: Path) -> None:
    assert class_pairs(context(tmp_path, pairs=["cat-ant", "ant-bee"]).config) == [(2, 0), (0, 1)]
