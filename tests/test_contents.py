"""What every analysis holds is what it held: the reference is `tests/data/contents`; see `tests.helpers.contents`."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from helpers.contents import (
    ANALYSES,
    JOBS,
    RENAMES,
    Contents,
    collect,
    column,
    differences,
    in_words,
    outline,
    plain,
    read,
    renamed,
    rounds_alike,
    tensor,
)

from lis.config import conf_folder
from lis.stages import names as stage_names


@pytest.mark.slow
def test_the_demo_holds_what_it_held(tmp_path: Path, shared_store: Path) -> None:
    assert_same(collect(tmp_path, ["demo"], store=shared_store))


@pytest.mark.full
def test_every_analysis_holds_what_it_held(tmp_path: Path) -> None:
    """Minutes of one core, most of them for matching, counterfactuals and the figures of units."""
    assert_same(collect(tmp_path))


@pytest.mark.full
def test_no_content_follows_the_batch(tmp_path: Path) -> None:
    assert_same(collect(tmp_path, overrides=("batch_size=7", "tuning.batch_size=7")))


def assert_same(jobs: dict[str, Contents]) -> None:
    """With values where the machine rounds as that of the reference, else names, dtypes and shapes."""
    part = (lambda contents: contents) if rounds_alike() else outline
    lines = [f"{name}: {line}" for name, now in jobs.items() for line in differences(part(read(name)), part(now))]
    assert not lines, f"{len(lines)} differences:\n" + "\n".join(lines)


def test_every_stage_and_analysis_is_among_the_jobs() -> None:
    files = {file.stem: yaml.safe_load(file.read_text()) for file in (conf_folder() / "analysis").glob("*.yaml")}
    new = {old.partition("=")[2]: name.partition("=")[2] for old, name in RENAMES["config"].items()}
    assert {new.get(name, name) for name in ANALYSES} == files.keys()
    boundary = yaml.safe_load((conf_folder() / "experiment" / "fig7.yaml").read_text())
    stages = [stage for file in [*files.values(), boundary["analysis"]] for stage in file["stages"]]
    assert set(stages) == set(stage_names())
    made_by_others = {"classifier", "probe", "projection"}
    names = {address.split(" / ")[0] for job in JOBS for address in read(job)}
    assert {f"stage: {name}" for name in made_by_others} <= names


def example() -> Contents:
    """As much as there is of every kind."""
    generator = torch.Generator().manual_seed(0)
    large = torch.randn(3, 50, 40, generator=generator)
    large[0, 0, :5] = torch.nan
    contents = {
        "stage: tuning / units.parquet / step": column(torch.tensor([1.0, torch.nan, -3.0]).numpy()),
        "stage: tuning / units.parquet / unit": column(torch.tensor([3, 5, 8]).numpy()),
        "stage: tuning / large.safetensors / image": tensor(large),
        "stage: tuning / large.safetensors / mask": tensor(large > 0),
        "stage: tuning / facts.json / counts.samples": 3,
        "stage: tuning / facts.json / labels": ["ear", "walk"],
        "metric: units/reencoded_share": 0.25,
        "page: 0 / lead": "The walk of tuning.seeds samples; walked.",
    }
    return {address: plain(leaf) for address, leaf in contents.items()}


def changed(address: str, **keys: object) -> Contents:
    contents = copy.deepcopy(example())
    contents[address] = contents[address] | keys
    return contents


def test_what_is_the_same_has_no_differences() -> None:
    assert differences(example(), example()) == []
    nearly = changed("stage: tuning / units.parquet / step", values=[1.00002, "nan", -3.0])
    assert differences(example(), nearly) == []  # of the largest magnitude, 3


def test_infinite_values_are_compared_as_they_are() -> None:
    infinite, other = ({"t": plain(column(torch.tensor([x, 1.0]).numpy()))} for x in (torch.inf, -torch.inf))
    assert differences(infinite, infinite) == [] and differences(infinite, other)


def test_a_value_that_changes_by_more_than_1e5_of_the_largest_is_told() -> None:
    address = "stage: tuning / units.parquet / step"
    for values in ([1.00004, "nan", -3.0], [1.0, 2.0, -3.0], ["nan", "nan", -3.0], [1.0, "nan", "-inf"]):
        assert differences(example(), changed(address, values=values)), values
    assert differences(example(), changed("stage: tuning / units.parquet / unit", values=[3, 5, 9]))
    assert differences(example(), example() | {"metric: units/reencoded_share": 0.25001})


@pytest.mark.parametrize("index", [0, 1])
def test_a_change_of_a_large_tensor_by_1e5_of_its_norm_is_told(index: int) -> None:
    """At one number, and a little at all."""
    value = torch.randn(3, 50, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other = value.clone()
    if index:
        other += 1e-5 * value.roll(1, 2)
    else:
        other[2, 49, 39] += 1e-5 * value.norm()
    before, after = ({"t": plain(tensor(each))} for each in (value, other))
    assert "values" not in before["t"] and "projections" in differences(before, after)[0]
    assert differences(before, {"t": plain(tensor(value + 1e-7 * value.roll(1, 2)))}) == []


def test_where_numbers_of_a_large_tensor_are_missing_is_told() -> None:
    value = torch.ones(3000)
    before, after = ({"t": plain(tensor(value.index_fill(0, torch.tensor([i]), torch.nan)))} for i in (7, 8))
    assert "nan_sha256" in differences(before, after)[0]


@pytest.mark.parametrize("lost", list(example()))
def test_what_is_gone_or_new_is_told(lost: str) -> None:
    rest = {address: leaf for address, leaf in example().items() if address != lost}
    assert differences(example(), rest) == [f"{lost}: is gone"]
    assert differences(rest, example()) == [f"{lost}: is new"]


def test_a_lost_stage_is_told() -> None:
    assert len(differences(example(), {a: leaf for a, leaf in example().items() if "tuning" not in a})) == 6


def test_the_reference_is_read_in_new_names() -> None:
    renames = {kind: {} for kind in RENAMES} | {
        "stage": {"tuning": "sweep"},
        "table": {"tuning/units": "all_units"},
        "column": {"tuning/units/step": "size"},
        "tensor": {"large": "arrays"},
        "fact": {"samples": "n"},
        "value": {"walk": "traversal"},
        "metric": {"units/reencoded_share": "units/arrived"},
        "config": {"tuning.seeds": "sweep.samples"},
        "text": {"walk": "traversal"},
    }
    new = renamed(example(), renames)
    assert list(new) == [
        "stage: sweep / all_units.parquet / size",
        "stage: sweep / all_units.parquet / unit",
        "stage: sweep / arrays.safetensors / image",
        "stage: sweep / arrays.safetensors / mask",
        "stage: sweep / facts.json / counts.n",
        "stage: sweep / facts.json / labels",
        "metric: units/arrived",
        "page: 0 / lead",
    ]
    assert new["stage: sweep / facts.json / labels"] == ["ear", "traversal"]
    assert new["page: 0 / lead"] == "The traversal of sweep.samples samples; walked."


def test_words_are_replaced_whole_and_at_once() -> None:
    assert in_words("a b, ab: a", {"a": "b", "b": "a"}) == "b a, ab: b"


def test_an_outline_has_no_values_and_every_name() -> None:
    address = "stage: tuning / units.parquet / step"
    other = changed(address, values=[7.0, 8.0, 9.0])
    assert differences(outline(example()), outline(other)) == []
    assert differences(outline(example()), outline(changed(address, dtype="i")))
    assert outline(example()).keys() == example().keys()
