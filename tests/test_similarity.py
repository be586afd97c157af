"""ARI and RSA against direct definitions, and the stage on planted pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_context, stand_in
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from lis.config import ClassesConfig, PairsConfig
from lis.linking.pairs import known_classes, pairs, pairs_of_class
from lis.linking.permutations import mantel, p_value, rand_index, shuffles
from lis.linking.random_classes import RandomClasses
from lis.linking.similarity import (
    ALL,
    STATISTICS,
    WITHIN,
    SimilarityConfig,
    cluster_agreement,
    draw,
    permuted,
    representational_similarity,
    similarity,
    within_classes,
)
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
    settings = {"pairs": PairsConfig(5, 20), "similarity": SimilarityConfig(repetitions, examples, 19)}
    settings |= {"classes": classes}
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
    assert list(first) == ["repetition", *STATISTICS]
    assert first["repetition"].tolist() == [0, 1, 2]
    assert len(set(first["rsa_similarity"])) == 3
    assert first["ari_r"].tolist() == [1, 1, 1]


def test_more_examples_than_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"similarity.examples=21: expected at most pairs.test=20"):
        similarity(context(tmp_path, examples=21))


def test_permutations_exchange_samples_within_their_groups():
    groups = np.array([1, 0, 1, 0, 0, 1, 2])
    orders = shuffles(groups, 200, np.random.default_rng(0))
    assert orders.shape == (200, 7) and (np.sort(orders, 1) == np.arange(7)).all()
    assert (groups[orders] == groups).all() and len({tuple(order) for order in orders.tolist()}) == 36
    anywhere = shuffles(np.zeros(3, int), 500, np.random.default_rng(0))
    counts = np.unique(anywhere, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 50


def test_mantel_equals_correlating_samples_that_are_permuted_one_by_one():
    rng = np.random.default_rng(0)
    r, w = rng.normal(size=(8, 5)), rng.normal(size=(8, 4))
    orders = shuffles(np.zeros(8, int), 5, rng)
    expected = [representational_similarity(r, w[order]) for order in orders]
    alike, apart = [np.asarray(np.corrcoef(x)) for x in (r, w)], [squareform(pdist(x)) for x in (r, w)]
    np.testing.assert_allclose(mantel(alike[0], alike[1], orders), [value for value, _ in expected])
    np.testing.assert_allclose(mantel(apart[0], apart[1], orders), [distance for _, distance in expected])
    assert np.isnan(mantel(np.ones((8, 8)), apart[1], orders)).all()


def test_the_rand_index_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 3, (20, 30)), rng.integers(0, 4, 30)
    expected = [adjusted_rand_score(row, clusters) for row in labels]
    np.testing.assert_allclose(rand_index(labels, clusters), expected, atol=1e-12)
    one = np.zeros((1, 5), int)
    assert rand_index(one, one[0])[0] == 1


def test_p_counts_the_value_among_its_permutations():
    null = np.array([0.2, 0.5, 0.9, 0.5])
    assert [p_value(x, null) for x in (1.0, 0.5, 0.1)] == [0.2, 0.8, 1.0]
    assert np.isnan(p_value(np.nan, null)) and np.isnan(p_value(0.1, np.full(3, np.nan)))


def test_within_classes_is_the_mean_of_each_class_alone():
    r, labels = classes(n=6, distance=3.0)
    w = np.random.default_rng(1).normal(size=(18, 4)) + 5 * labels[:, None]
    each = [representational_similarity(r[labels == c], w[labels == c]) for c in range(3)]
    np.testing.assert_allclose(within_classes(r, w, labels), np.mean(each, 0))
    two = labels.copy()
    two[labels == 2] = np.arange(2, 8)  # classes of one sample have no pairs
    np.testing.assert_allclose(within_classes(r, w, two), np.mean(each[:2], 0))
    assert np.isnan(within_classes(r[:2], w[:2], labels[:2])).all()


def test_classes_alone_give_a_similarity_that_goes_within_them():
    """R and W share nothing but where their classes lie: the correlation is there, and none within classes."""
    r, labels = classes(n=20, distance=6.0)
    w = np.random.default_rng(1).normal(size=(60, 5)) + 6 * np.random.default_rng(2).normal(size=(3, 5))[labels]
    table = permuted(r, w, labels, 0, 99, np.random.default_rng(3)).set_index(["statistic", "exchanged"])
    assert list(table.index) == [
        ("ari_r", ALL), ("ari_w", ALL), ("rsa_similarity", ALL), ("rsa_similarity", WITHIN),
        ("rsa_similarity_within", WITHIN), ("rsa_dissimilarity", ALL), ("rsa_dissimilarity", WITHIN),
        ("rsa_dissimilarity_within", WITHIN),
    ]  # fmt: skip
    apart, alone = table.loc[("rsa_dissimilarity", ALL)], table.loc[("rsa_dissimilarity", WITHIN)]
    assert apart["value"] == alone["value"] > 0.3 and apart["p"] == 0.01 and abs(apart["mean"]) < 0.05
    assert alone["mean"] == pytest.approx(alone["value"], abs=0.05) and alone["p"] > 0.05
    assert table.loc[("rsa_dissimilarity_within", WITHIN), "p"] > 0.05
    for name in ("ari_r", "ari_w"):
        assert abs(table.loc[(name, ALL), "mean"]) < 0.02 and table.loc[(name, ALL), "p"] == 0.01
    inside = within_classes(r, w, labels)
    names = ("rsa_similarity_within", "rsa_dissimilarity_within")
    assert [table.loc[(name, WITHIN), "value"] for name in names] == pytest.approx(inside)


SIX = tuple("abcdef")


def fake_context(root, names=("a", "b"), random_classes=3, **overrides):
    """Six classes, of which the classifier never answers with the last."""
    generator = FakeGenerator(SIX)
    classifier = FakeClassifier(generator)
    head = classifier.head
    classifier.head = lambda r: head(r).index_fill(1, torch.tensor([5]), -1000000000.0)
    settings = SimilarityConfig(repetitions=2, examples=5, permutations=9, random_classes=random_classes)
    return make_context(root, generator, classifier, class_names=names, similarity=settings, **overrides)


def test_random_classes_are_drawn_from_those_that_both_models_know(tmp_path):
    ctx = fake_context(tmp_path)
    artifact = similarity(ctx)
    table = artifact.table("random_classes")
    assert list(table) == ["draw", "classes", *STATISTICS] and table["draw"].tolist() == [0, 1, 2]
    drawn = [set(row.split(", ")) for row in table["classes"]]
    assert all(len(classes) == 2 and classes <= set(SIX) for classes in drawn) and len(set(map(frozenset, drawn))) > 1
    assert np.isfinite(table[list(STATISTICS)].to_numpy()).all()
    assert similarity(fake_context(tmp_path / "again")).table("random_classes").equals(table)
    none = similarity(fake_context(tmp_path, random_classes=0))
    assert none.table("random_classes").empty and none.table("refused").empty and none.key != artifact.key


def test_a_class_that_the_classifier_does_not_accept_is_drawn_anew(tmp_path):
    random = RandomClasses(fake_context(tmp_path), examples=5)
    drawn = [random.draw(np.random.default_rng(k)) for k in range(8)]
    assert random.refused == ["f"] and all("f" not in each.classes and len(each.r) == 10 for each in drawn)
    whole = RandomClasses(fake_context(tmp_path, names=SIX[:5]), examples=5)
    assert set(whole.draw(np.random.default_rng(0)).classes) == set(SIX[:5])
    with pytest.raises(ValueError, match=r"of 6 classes the classifier accepts enough samples of 5, expected 6"):
        RandomClasses(fake_context(tmp_path, names=SIX), examples=5).draw(np.random.default_rng(0))


def test_pairs_of_any_class_are_those_that_a_run_on_it_has(tmp_path):
    ctx = fake_context(tmp_path, names=("d", "b"))
    run = pairs(ctx, "test").tensors("pairs")
    mine = pairs_of_class(fake_context(tmp_path / "other"), "test", "d", 20)
    assert torch.equal(run["r"][:20], mine["r"]) and torch.equal(run["w"][:20], mine["w"])
    assert torch.equal(run["sample_index"][:20], mine["sample_index"])


def test_random_classes_need_others_than_those_of_the_run(tmp_path):
    assert known_classes(fake_context(tmp_path)) == list(SIX)
    with pytest.raises(ValueError, match=r"random_classes=3: generator and classifier have 6 classes in common, exp"):
        similarity(fake_context(tmp_path, names=SIX))
