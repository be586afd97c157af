"""A class set without parts: what needs none runs, the rest is left out and said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.fakes_units import NAMES, tuning_context, use_fake_segmenter

from lis.boundary.gan_counterfactuals import GanCounterfactualsConfig, gan_counterfactuals
from lis.context import Context
from lis.labels.labelled import NO_PARTS
from lis.linking.link import link
from lis.report.html import shows_data
from lis.report.section import build_sections
from lis.report.source import source
from lis.report.tables import known
from lis.stage import REGISTRY, omitted, requested
from lis.store import Artifact
from lis.units.pictures import pictures
from lis.units.tuned import Tuned
from lis.units.tuning import tuning
from lis.units.unit_statistics import unit_statistics

STAGES = ["link", "segmenter", "segmentation", "tuning", "unit_statistics", "truth", "pictures"]
PARTS = {"What units change", "Measures side by side", "Sparsity", "Map of units", "Transfer between classes"}
SIZES = {"view__steps": 3, "gan_counterfactuals": GanCounterfactualsConfig(samples=2, steps=3, examples=2, units=3)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, dict[str, Artifact]]:
    """All stages of units, on the fakes."""
    ctx = tuning_context(tmp_path_factory.mktemp("run"), classes__labels=[], analysis__stages=STAGES, **SIZES)
    stages = (link, tuning, unit_statistics, pictures, gan_counterfactuals)
    return ctx, {stage.name: stage(ctx) for stage in stages}


def test_units_are_tuned_and_answers_are_there(run: tuple[Context, dict[str, Artifact]]) -> None:
    tuned, statistics = Tuned.of(run[1]["tuning"]), run[1]["unit_statistics"]
    units, samples, steps = len(tuned.unit), len(tuned.class_index), tuned.value.shape[1]
    assert tuned.labels == () and tuned.measures.shape == (units, samples, steps, 0, 5)
    assert tuned.reencoded_share.isfinite().all() and tuned.probability.isfinite().all()
    for name in ("ranking", "overlap", "transfer", "agreement", "unit_sparsity"):
        assert statistics.table(name).empty
    assert len(statistics.table("relevance")) == units * len(NAMES)
    arrives = statistics.table("faithfulness")
    assert len(arrives) == units and not known(arrives, "selectivity").size


def test_pictures_are_chosen_by_relevance(run: tuple[Context, dict[str, Artifact]]) -> None:
    table = run[1]["pictures"].table("pictures")
    assert set(table["figure"]) == {"relevant", "shared"} and set(table["label"]) == {""}
    assert set(table["measure"]) == {"probability"} and len(known(table, "change")) == len(table)


def test_a_page_has_one_line_and_nothing_that_is_empty(run: tuple[Context, dict[str, Artifact]]) -> None:
    ctx, artifacts = run
    sections = {section.title: section for section in build_sections(source(ctx, artifacts))}
    assert not PARTS & sections.keys()
    assert {"Left out", "Class relevance", "What arrives", "Another class from the same z"} <= sections.keys()
    lead = sections["Left out"].lead
    assert "classes.labels is empty" in lead and "no rankings of units" in lead
    assert "Truth is left out: FakeGenerator does not know the true picture of a w." in lead
    for section in sections.values():
        assert all(shows_data(picture.figure) for picture in section.figures)
        assert all(table.rows for table in section.tables)
    ways = {picture.name: picture.caption for picture in sections["Another class from the same z"].figures}
    assert ways.keys() == {"gan-counterfactuals", "gan-counterfactuals-units"}
    assert "utlined" not in ways["gan-counterfactuals-units"]


def test_a_run_with_parts_says_nothing(tmp_path: Path) -> None:
    ctx = tuning_context(tmp_path, analysis__stages=["segmenter", "tuning"])
    assert omitted(ctx) == {} and requested(ctx) == ["segmenter", "tuning"]
    assert "Left out" not in {section.title for section in build_sections(source(ctx, {}))}


def test_stages_are_left_out_but_the_one_that_a_run_is_for(tmp_path: Path) -> None:
    ctx = tuning_context(tmp_path, classes__labels=[], analysis__stages=STAGES)
    reasons = omitted(ctx)
    assert list(reasons) == ["segmenter", "segmentation", "truth"]
    assert reasons["segmenter"] == reasons["segmentation"] == NO_PARTS
    assert requested(ctx) == ["link", "tuning", "unit_statistics", "pictures"]
    alone = tuning_context(tmp_path, classes__labels=[], analysis__stages=["segmenter", "segmentation"])
    assert requested(alone) == ["segmentation"] and requested(tuning_context(tmp_path, analysis__stages=[])) == []
    with pytest.raises(ValueError, match=r"classes\.labels is empty: name the parts that are to be found"):
        REGISTRY["segmentation"](alone)


def test_answers_do_not_depend_on_parts(
    tmp_path: Path, run: tuple[Context, dict[str, Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_segmenter(monkeypatch)
    other = Tuned.of(tuning(tuning_context(tmp_path, **SIZES)))
    tuned = Tuned.of(run[1]["tuning"])
    assert torch.equal(tuned.probability, other.probability) and torch.equal(tuned.prediction, other.prediction)
