"""Pairs: the first accepted samples of each class, whatever the batches and shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from helpers.stored import count
from torch import Tensor

from lis.context import Context
from lis.linking.pairs import CHECK_EVERY, Source, Tally, pairs, validate_classes
from lis.streams import Stream


def _context(root: Path, spread: float = 1.5, conditional: bool = True, **overrides: Any) -> Context:
    """Classes so wide that a good share of the samples is rejected."""
    return make_context(root, FakeGenerator(spread=spread, conditional=conditional), **overrides)


def _reference(ctx: Context, split: str, n: int) -> dict[str, list[tuple[int, Tensor, Tensor]]]:
    """One sample after the other until each class has n: (index, w, r)."""
    found: dict[str, list[tuple[int, Tensor, Tensor]]] = {name: [] for name in ctx.class_names}
    generator, stream = ctx.generator, Stream(f"{split} pairs", ctx.config.seed)
    for wanted in ctx.class_names:
        index = 0
        while len(found[wanted]) < n:
            place = generator.class_names.index(wanted) if generator.num_classes else None
            w = generator.sample(place, torch.tensor([index]), stream, ctx.config.gan.truncation)
            r = ctx.classifier.features(generator.synthesize(w))
            if ctx.classifier.class_names[int(ctx.classifier.head(r).argmax())] == wanted or _any(ctx):
                found[wanted].append((index, w[0], r[0]))
            index += 1
    return found


def _any(ctx: Context) -> bool:
    return ctx.config.pairs.accept == "any"


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_are_the_first_accepted_samples(tmp_path: Path, split: str, conditional: bool) -> None:
    """Against drawing one by one; the acceptance counts the draws up to the last that was needed."""
    ctx = _context(tmp_path, conditional=conditional)
    n = {"train": 40, "test": 20}[split]
    artifact, expected = pairs(ctx, split), _reference(ctx, split, n)
    table, rows = artifact.tensors("pairs"), [row for name in NAMES for row in expected[name]]
    assert table["class_index"].tolist() == [c for c in range(3) for _ in range(n)]
    assert table["sample_index"].tolist() == [row[0] for row in rows]
    torch.testing.assert_close(table["w"], torch.stack([row[1] for row in rows]))
    torch.testing.assert_close(table["r"], torch.stack([row[2] for row in rows]))
    acceptance = artifact.table("acceptance").set_index("class")
    drawn = {name: expected[name][-1][0] + 1 for name in NAMES}
    assert acceptance["drawn"].to_dict() == drawn
    assert acceptance["accepted"].tolist() == [n, n, n]
    assert acceptance["rate"].to_dict() == pytest.approx({name: n / drawn[name] for name in NAMES})
    assert min(acceptance["rate"]) < 0.9


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 16), (50, 3), (16, 1000), (9, 41)])
@pytest.mark.parametrize("conditional", [True, False])
def test_batches_and_shards_do_not_matter(tmp_path: Path, batch_size: int, shard_size: int, conditional: bool) -> None:
    """The same key, and the same pairs."""
    reference = pairs(_context(tmp_path / "a", conditional=conditional), "train")
    sizes = {"batch_size": batch_size, "shard_size": shard_size}
    other = pairs(_context(tmp_path / "b", conditional=conditional, **sizes), "train")
    assert reference.key == other.key
    ours, theirs = reference.tensors("pairs"), other.tensors("pairs")
    assert torch.equal(ours["sample_index"], theirs["sample_index"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert reference.table("acceptance").equals(other.table("acceptance"))


def test_splits_share_no_sample(tmp_path: Path) -> None:
    """No w of the training pairs is a w of the test pairs; nor does a w come twice."""
    ctx = _context(tmp_path)
    w = torch.cat([pairs(ctx, split).tensors("pairs")["w"] for split in ("train", "test")])
    assert len(torch.unique(w, dim=0)) == len(w) == 180


def test_any_takes_every_sample(tmp_path: Path) -> None:
    """`accept=any`: the first n, right or wrong."""
    artifact = pairs(_context(tmp_path, pairs__accept="any"), "test")
    assert artifact.tensors("pairs")["sample_index"].tolist() == 3 * list(range(20))
    assert artifact.table("acceptance")["rate"].tolist() == [1.0, 1.0, 1.0]


def test_more_pairs_start_with_the_same_and_reuse_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger n only draws what is missing."""
    small = pairs(_context(tmp_path, pairs__train=20), "train").tensors("pairs")
    drawn: list[int] = []
    sample = FakeGenerator.sample

    def counted(self: FakeGenerator, class_index: int | None, indices: Tensor, *rest: Any) -> Tensor:
        drawn.extend(indices.tolist())
        return sample(self, class_index, indices, *rest)

    monkeypatch.setattr(FakeGenerator, "sample", counted)
    large = pairs(_context(tmp_path, pairs__train=60), "train").tensors("pairs")
    assert torch.equal(large["w"][:20], small["w"][:20])
    assert drawn
    assert min(drawn) >= 16


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted after some shards gives the same as an unbroken run, and does not draw them again."""
    expected = pairs(_context(tmp_path / "unbroken"), "train").tensors("pairs")
    calls, synthesize = [], FakeGenerator.synthesize

    def interrupted(self: FakeGenerator, w: Tensor, features: bool = False) -> Any:
        calls.append(len(w))
        if len(calls) == 12:
            raise KeyboardInterrupt
        return synthesize(self, w, features)

    monkeypatch.setattr(FakeGenerator, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pairs(_context(tmp_path / "broken"), "train")
    done = count(tmp_path / "broken/store", "pairs-shard")
    again = _context(tmp_path / "broken")
    calls[:] = [0] * 12
    torch.testing.assert_close(pairs(again, "train").tensors("pairs"), expected)
    total = count(tmp_path / "broken/store", "pairs-shard")
    assert done > 0
    assert sum(calls) == (total - done) * 16 + 1  # to learn what an image takes


class _Blind(FakeClassifier):
    """Never recognises the second class."""

    def head(self, r: Tensor) -> Tensor:
        logits = super().head(r)
        logits[:, 1] = -torch.inf
        return logits


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("shard_size", [16, 400, 500])
def test_a_hopeless_class_is_named_with_its_rate(tmp_path: Path, shard_size: int, conditional: bool) -> None:
    """After 500 draws, whatever the shards; and with what can be done."""
    generator = FakeGenerator(conditional=conditional)
    ctx = make_context(tmp_path, generator, _Blind(generator), shard_size=shard_size, pairs__train=3000)
    with pytest.raises(ValueError, match=r"'bee'.* 0\.00% of 500 .*pairs\.min_acceptance"):
        pairs(ctx, "train")


def test_a_hopeless_class_costs_few_draws(tmp_path: Path) -> None:
    """Other classes are not finished first."""
    generator = FakeGenerator()
    ctx = make_context(tmp_path, generator, _Blind(generator), shard_size=500, pairs__train=50_000, batch_size=500)
    with pytest.raises(ValueError, match="'bee'"):
        pairs(ctx, "train")
    assert count(tmp_path / "store", "pairs-shard") <= 3


class _Broken(FakeGenerator):
    """Sample 21 of the second class is not finite."""

    def sample(self, class_index: int | None, indices: Tensor, stream: Stream, truncation: float = 1.0) -> Tensor:
        w = super().sample(class_index, indices, stream, truncation)
        if class_index in (1, None):
            w[indices == 21, 2] = torch.nan
        return w


class _BrokenNet(FakeClassifier):
    """Large images give infinite activations."""

    def features(self, image: Tensor) -> Tensor:
        r = super().features(image)
        return torch.where(r > r.max(1, keepdim=True).values - 1e-6, torch.inf, r)


def test_nan_stops_with_class_and_index(tmp_path: Path) -> None:
    """In the style code or in the activations, with and without classes."""
    with pytest.raises(ValueError, match=r"style code of sample 21 of class 'bee' .*train pairs"):
        pairs(make_context(tmp_path, _Broken()), "train")
    with pytest.raises(ValueError, match="style code of sample 21 of a generator without classes"):
        pairs(make_context(tmp_path, _Broken(conditional=False)), "train")
    generator = FakeGenerator()
    with pytest.raises(ValueError, match="activation of the classifier of sample 0 of class 'ant'"):
        pairs(make_context(tmp_path, generator, _BrokenNet(generator)), "test")


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """A classifier that knows more classes, and a run on some of them in another order."""
    generator = FakeGenerator()
    classifier = FakeClassifier(generator, class_names=(*NAMES, "dog"))
    table = pairs(make_context(tmp_path, generator, classifier, classes__names=["cat", "ant"]), "test").tensors("pairs")
    stream = Stream("test pairs", 0)
    for place, class_index in enumerate((2, 0)):
        own = table["class_index"] == place
        assert torch.equal(table["w"][own], generator.sample(class_index, table["sample_index"][own], stream))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"classes__names": ["ant", "emu"]}, r"generator .*emu; .*has ant, bee, cat; the classifier has ant, bee, cat"),
        ({"classes__names": ["bee", "ant", "bee"]}, "bee more than once"),
        ({"classes__names": []}, "empty"),
        ({"pairs__train": 0}, "0 pairs per class"),
        ({"pairs__accept": "all"}, "'all'.*'correct' or 'any'"),
    ],
)
def test_bad_input_is_refused_before_work(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    """Nothing is drawn."""
    with pytest.raises(ValueError, match=message):
        pairs(make_context(tmp_path, **overrides), "train")
    assert not (tmp_path / "store/pairs-shard").exists()


def test_a_class_that_only_the_generator_knows_is_refused() -> None:
    generator = FakeGenerator()
    classifier = FakeClassifier(generator, class_names=("ant", "bee", "cow"))
    with pytest.raises(ValueError, match="classifier does not know cat"):
        validate_classes(NAMES, generator, classifier)
    with pytest.raises(ValueError, match=r"none .the class is drawn inside"):
        validate_classes(NAMES, FakeGenerator(conditional=False), classifier)


def test_any_needs_a_class(tmp_path: Path) -> None:
    """A generator without classes has none to give."""
    ctx = make_context(tmp_path, FakeGenerator(conditional=False), pairs__accept="any")
    with pytest.raises(ValueError, match=r"pairs\.accept=correct"):
        pairs(ctx, "train")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    """The two that there are, are named."""
    with pytest.raises(ValueError, match="'train' or 'test'"):
        pairs(make_context(tmp_path), "tset")


def _tally(hits: list[bool]) -> Tally:
    return Tally("ant", 0, Source("ant", 0, 0), torch.tensor(hits))


def test_tally_counts_draws() -> None:
    """Up to the n-th hit; what is missing; how many shards come next."""
    tally = _tally([False, True, False, True, True])
    assert [tally.needed(n) for n in (1, 2, 3, 4)] == [2, 4, 5, 5]
    assert [tally.missing(n) for n in (1, 3, 5)] == [0, 0, 2]
    assert tally.shortfall(3, 10) == 0
    assert tally.shortfall(30, 10) == 5
    assert _tally([]).shortfall(10**6, 100) == CHECK_EVERY / 100


def test_a_low_rate_is_forgiven_when_enough_are_found_in_time() -> None:
    """The first check comes after 500 draws; those that come after the n-th hit do not count."""
    _tally([True] * 5 + [False] * 2000).check(5, 0.1)
    with pytest.raises(ValueError, match=r"1\.00% of 500"):
        _tally([True] * 5 + [False] * 500).check(6, 0.1)
