"""Streams share no sample, and a sample depends on nothing but its address."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.fakes import FakeGenerator

from lis import streams
from lis.streams import NAMES, Stream


def _rows(stream: Stream, class_index: int | None) -> set[bytes]:
    return {row.numpy().tobytes() for row in stream.normal(class_index, torch.arange(300), 8)}


def test_no_two_addresses_share_a_draw() -> None:
    """Every stream, class (and none) and seed: all rows are different, not only rows of the same index."""
    addresses = list(itertools.product(NAMES, (None, 0, 1, 11), (0, 1)))
    rows = [_rows(Stream(name, seed), class_index) for name, class_index, seed in addresses]
    assert len(set().union(*rows)) == 300 * len(addresses)


def test_train_and_test_pairs_share_no_style_code() -> None:
    """The same through a generator."""
    generator = FakeGenerator()
    codes = [generator.sample(1, torch.arange(200), Stream(f"{split} pairs", 0)) for split in ("train", "test")]
    assert not (codes[0][:, None] == codes[1][None]).all(-1).any()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    """Any split and any order of the indices give the same rows."""
    stream, indices = Stream("test pairs", seed=3), torch.randperm(50, generator=torch.Generator().manual_seed(0))
    whole = stream.normal(1, torch.arange(50), 5)
    for size in (1, 7, 50):
        parts = torch.cat([stream.normal(1, part, 5) for part in indices.split(size)])
        assert torch.equal(parts, whole[indices])


def test_draws_are_standard_normal() -> None:
    """Mean 0, variance 1, and neighbours are not correlated."""
    draws = Stream("train pairs").normal(0, torch.arange(4000), 4).double()
    assert draws.mean(0).abs().max() < 0.06
    assert (draws.var(0) - 1).abs().max() < 0.08
    assert abs(float((draws[1:] * draws[:-1]).mean())) < 0.04


def test_no_index_gives_no_rows() -> None:
    """An empty batch keeps its width."""
    assert Stream("train pairs").normal(0, torch.arange(0), 3).shape == (0, 3)


@pytest.mark.parametrize(("name", "seed", "message"), [("trian pairs", 0, "train pairs"), ("train pairs", -1, "-1")])
def test_bad_streams_are_refused(name: str, seed: int, message: str) -> None:
    """The message shows what was given or what there is."""
    with pytest.raises(ValueError, match=message):
        Stream(name, seed)


def test_torch_seed_is_stable_and_differs() -> None:
    """One number per stream and seed."""
    seeds = [Stream(name, seed).torch_seed for name in NAMES for seed in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == Stream(NAMES[0], 0).torch_seed


def test_a_stage_that_declares_a_seed_has_the_stream_of_its_name() -> None:
    """It had to be listed here too, so that a new analysis was three files."""
    name = "stream of a stage"
    with pytest.raises(ValueError, match="or the name of a stage that is declared with seed=True"):
        Stream(name)
    streams.declare(name)
    assert Stream(name).torch_seed not in {Stream(other).torch_seed for other in NAMES}
