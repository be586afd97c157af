"""ARI and RSA against direct definitions, and the stage on planted pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import stand_in
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lis.config import ClassesConfig, PairsConfig
from lis.linking.similarity import SimilarityConfig, cluster_agreement, draw, representational_similarity, similarity
from lis.progress import Progress
from lis.store import Recipe, Store


def classes(n=20, width=8, distance=9.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), n)
    return rng.normal(size=(3 * n, width)) + distance * rng.normal(size=(3, width))[labels], labels


def test_clusters_that_are_the_classes_agree_and_others_do_not():
    x, labels = classes()
    assert cluster_agreement(x, labels, seed=0) == 1
    assert abs(cluster_agreement(classes(distance=0)[0], labels, seed=0)) < 0.2


def test_fewer_coordinates_change_nothing():
    x, labels = classes(width=200, distance=0.4)
    clusters = KMeans(3, n_init=20, random_state=5).fit_predict(x)  # pyright: ignore[reportArgumentType]: untyped
    assert cluster_agreement(x, labels, seed=5) == pytest.approx(adjusted_rand_score(labels, clusters))


def test_representational_similarity_equals_plain_loops():
    rng = np.random.default_rng(0)
    r = rng.normal(size=(9, 5))
    w = r[:, :3] + rng.normal(size=(9, 3))
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    alike = [[np.corrcoef(x[i], x[j])[0, 1] for i, j in pairs] for x in (r, w)]
    apart = [[np.sqrt(((x[i] - x[j]) ** 2).sum()) for i, j in pairs] for x in (r, w)]
    expected = np.corrcoef(alike)[0, 1], np.corrcoef(apart)[0, 1]
    np.testing.assert_allclose(representational_similarity(r, w), expected)
    np.testing.assert_allclose(representational_similarity(r, 2 * r + 1), 1)


def test_what_is_not_defined_is_nan():
    r = np.random.default_rng(0).normal(size=(4, 3))
    constant = r.copy()
    constant[1] = 2
    assert np.isnan(representational_similarity(r, constant)[0])
    assert np.isnan(representational_similarity(r, np.zeros((4, 3)))[1])
    with pytest.raises(ValueError, match="2 samples of r and 2 of w"):
        representational_similarity(r[:2], r[:2])


def test_a_draw_takes_as_many_of_each_class_and_none_twice():
    labels = np.array([2, 0, 0, 1, 2, 1, 0, 2])
    chosen = draw(labels, 2, np.random.default_rng(0))
    assert labels[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen.tolist())) == 6


def context(store, repetitions=3, examples=10) -> Any:
    classes = ClassesConfig("letters", ["a", "b", "c"])
    settings = {"pairs": PairsConfig(5, 20), "similarity": SimilarityConfig(repetitions, examples), "classes": classes}
    config = SimpleNamespace(seed=0, **settings)
    return SimpleNamespace(config=config, store=Store(store), class_names=tuple(classes.names), progress=Progress())


def test_the_stage_repeats_and_is_the_same_again(tmp_path, monkeypatch):
    x, labels = classes()
    tensors = {"r": torch.from_numpy(x).float(), "w": torch.from_numpy(x[:, :4].copy()).float()}
    tensors["class_index"] = torch.from_numpy(labels)

    def pairs(ctx):
        return ctx.store.make(Recipe("test pairs", 1, {}), lambda draft: draft.tensors("pairs", tensors))

    stand_in(monkeypatch, "pairs/test", pairs)
    first, again = (similarity(context(tmp_path / name)).table("similarity") for name in "ab")
    assert first.equals(again)
    assert list(first) == ["repetition", "ari_r", "ari_w", "rsa_similarity", "rsa_dissimilarity"]
    assert first["repetition"].tolist() == [0, 1, 2]
    assert len(set(first["rsa_similarity"])) == 3
    assert first["ari_r"].tolist() == [1, 1, 1]


def test_more_examples_than_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"similarity.examples=21: expected at most pairs.test=20"):
        similarity(context(tmp_path, examples=21))
