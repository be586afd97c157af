"""Pictures of chosen units: the choice against sorting by hand, the pictures against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import tuned_findings
from helpers.fakes_units import LABELS, look, tuning_context, use_fake_segmenter
from torch import Tensor

from lis.context import Context
from lis.images import LARGEST, smaller
from lis.linking.link import link, load_link
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.report.tables import records, where
from lis.store import Artifact
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.pictures import (
    Example,
    examples,
    flags,
    head,
    leaders,
    most_shared,
    pictures,
    style_codes,
    typical,
    unflagged_first,
    widespread,
)
from lis.units.tuned import Tuned
from lis.units.tuning import tuning

STEPS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage on the fakes."""
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        ctx = tuning_context(tmp_path_factory.mktemp("run"), view__steps=STEPS, unit_statistics__examples=2)
        artifact = pictures(ctx)
    return ctx, artifact


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, dict[str, Artifact]]:
    """Synthetic units of dogs, and what is learned from them."""
    own = tuned_findings.tuned(30, 5)
    return own, tuned_findings.learn(tmp_path_factory.mktemp("tables"), own, tuned_findings.tuned(20, 5, null=True))


@pytest.fixture(scope="module")
def chosen(tables: tuple[Tuned, dict[str, Artifact]]) -> list[Example]:
    own, artifacts = tables
    return examples(
        artifacts["unit_statistics"].table("ranking"), artifacts["unit_statistics"].table("relevance"), own, 2
    )


def of(chosen: list[Example], figure: str) -> list[Example]:
    return [example for example in chosen if example.figure == figure]


def test_typical_equals_plain_loops() -> None:
    values = torch.randn(3, 9, generator=torch.Generator().manual_seed(0)) + 2
    values[1, 4] = values[0, 2] = torch.nan
    means = [np.nanmean(row) for row in values.numpy()]
    distance = {}
    for s in set(range(9)) - {4, 2}:
        distance[s] = sum(abs(float(values[row, s]) - means[row]) / abs(means[row]) for row in range(3))
    assert typical(values) == min(distance, key=lambda s: distance[s])


def test_a_sample_without_the_label_is_shown_only_where_no_other_is() -> None:
    assert typical(torch.tensor([[torch.nan, 50.0, 0.0, 0.1]])) == 3
    assert typical(torch.tensor([[torch.nan, torch.nan], [torch.nan, 1.0]])) == 1
    assert typical(torch.full((1, 3), torch.nan)) == 0


def test_leaders_and_heads_equal_sorting_by_hand(tables: tuple[Tuned, dict[str, Artifact]]) -> None:
    own, artifacts = tables
    ranking, mean = artifacts["unit_statistics"].table("ranking"), own.average.value.abs()
    m = MEASURES.index("entropy")
    strongest = {label: float(mean[:, k, m].max()) for k, label in enumerate(own.labels)}
    assert leaders(ranking.assign(flags=0), "entropy") == sorted(own.labels, key=lambda label: -strongest[label])
    k = own.labels.index("ear")
    assert head(ranking, "ear", "entropy", 4) == mean[:, k, m].argsort(descending=True)[:4].tolist()


def test_a_unit_without_a_mean_angle_is_no_example(tables: tuple[Tuned, dict[str, Artifact]]) -> None:
    own, artifacts = tables
    table = artifacts["unit_statistics"].table("ranking")
    angles = table["measure"] == "angle"
    unknown = table.assign(change=table["change"].mask(angles), resultant=table["resultant"].mask(angles))
    found = examples(unknown, artifacts["unit_statistics"].table("relevance"), own, 2)
    assert found and not [example for example in found if example.measure == "angle"]


def test_a_change_that_few_samples_have_is_passed_over(tables: tuple[Tuned, dict[str, Artifact]]) -> None:
    own, artifacts = tables
    ranking = artifacts["unit_statistics"].table("ranking")
    assert widespread(ranking, own).equals(ranking)
    k, first = own.labels.index("ear"), records(where(ranking, label="ear", measure="angle"))[:3]
    measures = own.measures.clone()
    measures[first[0]["unit"], :8, -1, k, MEASURES.index("angle")] = torch.nan
    measures[first[1]["unit"], :7, 0, k] = torch.nan
    rare = widespread(ranking, replace(own, measures=measures))
    left = where(rare, label="ear", measure="angle")
    assert left["unit"].tolist()[:2] == [first[1]["unit"], first[2]["unit"]] and left["rank"].tolist()[:2] == [1, 2]
    assert len(rare) == len(ranking) - 1


def test_units_that_are_not_reached_or_outmoved_lead_nothing(
    tables: tuple[Tuned, dict[str, Artifact]],
) -> None:
    own, artifacts = tables
    ranking, relevance = (artifacts["unit_statistics"].table(name) for name in ("ranking", "relevance"))
    ranking, relevance = (table.assign(reached=table["unit"] % 3 > 0) for table in (ranking, relevance))
    means = {name: getattr(own, name).mean(1) for name in ("own", "others")}
    sound = [u for u in range(30) if u % 3 and means["others"][u] < means["own"][u].abs()]
    assert 0 < len(sound) < 30
    first = {(e.figure, e.block): e.unit for e in reversed(examples(ranking, relevance, own, 2))}
    assert len(first) > 8 and set(first.values()) <= set(sound)
    ranking = unflagged_first(ranking, own)
    for _, rows in ranking.sort_values("rank").groupby(["label", "measure"]):
        assert [unit in sound for unit in rows["unit"]] == sorted(
            (unit in sound for unit in rows["unit"]), reverse=True
        )
        assert rows["flags"].is_monotonic_increasing and rows["rank"].tolist() == list(range(1, len(rows) + 1))


def test_without_any_reached_unit_the_order_is_that_of_the_others(tables: tuple[Tuned, dict[str, Artifact]]) -> None:
    own, artifacts = tables
    ranking = artifacts["unit_statistics"].table("ranking").assign(reached=False)
    isolated = replace(own, others=0 * own.others)
    assert unflagged_first(ranking, isolated)["rank"].tolist() == ranking["rank"].tolist()


def test_every_figure_has_its_rows(chosen: list[Example], tables: tuple[Tuned, dict[str, Artifact]]) -> None:
    own, artifacts = tables
    ranking = unflagged_first(artifacts["unit_statistics"].table("ranking"), own)
    seen = where(ranking, interpreted=True)
    assert [(e.block, e.measure) for e in of(chosen, "measures")] == [
        (k, m) for k, m in enumerate(MEASURES) for _ in "ab"
    ]
    assert [e.label for e in of(chosen, "measures")[:2]] == leaders(seen, "area")[:2]
    shape, outline, surface = (of(chosen, name) for name in ("shape", "outline", "surface"))
    assert [e.measure for e in shape] == ["eccentricity"] * 2 + ["angle"] * 2
    assert [e.unit for e in shape[:2]] == head(ranking, leaders(seen, "eccentricity")[0], "eccentricity", 2)
    assert [e.measure for e in outline] == ["area"] * 2 + ["eccentricity"] * 2 + ["angle"] * 2
    assert len({e.sample for e in outline}) == len({e.sample for e in surface}) == 1
    largest = own.labels[int(np.nanargmax(own.mean_area))]
    assert {e.label for e in surface} == {largest} and {e.label for e in outline} == {leaders(seen, "area")[0]}
    assert not any(e.label == tuned_findings.SMALL for e in chosen)


def test_rows_through_the_classes_show_a_sample_of_each(
    chosen: list[Example], tables: tuple[Tuned, dict[str, Artifact]]
) -> None:
    own, artifacts = tables
    relevance = artifacts["unit_statistics"].table("relevance")
    for block in range(2):
        rows = [e for e in of(chosen, "transfer") if e.block == block]
        assert own.class_index[[e.sample for e in rows]].tolist() == [0, 1, 2] and len({e.unit for e in rows}) == 1
    shared = of(chosen, "shared")
    assert own.class_index[[e.sample for e in shared]].tolist() == [0, 1, 2]
    relevance = relevance.assign(flags=flags(relevance, own))
    good = where(relevance, flags=relevance["flags"].min())
    by_unit = good.groupby("unit").agg({"relevant": "sum", "relevance": "mean"})
    best = max(by_unit.index, key=lambda unit: tuple(by_unit.loc[unit]))
    assert {e.unit for e in shared} == {best} == {most_shared(relevance)}
    first = good.loc[good["relevance"].idxmax()]
    top = of(chosen, "relevant")[0]
    assert top.unit == first["unit"] and own.class_names[int(own.class_index[top.sample])] == first["class"]


def test_no_label_large_enough_leaves_only_answers(tmp_path: Path) -> None:
    own = tuned_findings.tuned(8, 3, labels=("eye",))
    made = tuned_findings.learn(tmp_path, own, tuned_findings.tuned(4, 3, labels=("eye",), null=True))[
        "unit_statistics"
    ]
    found = examples(made.table("ranking"), made.table("relevance"), own, 2)
    assert {example.figure for example in found} == {"relevant", "shared"}


def test_pictures_equal_plain_loops(run: tuple[Context, Artifact]) -> None:
    """Images, masks, measures, answers, and every row of the table."""
    ctx, artifact = run
    found, table = artifact.tensors("pictures"), artifact.table("pictures")
    screened = screened_of(ctx)
    r, ranges = screened.tensors("seeds")["r"], screened.table("units").set_index("unit")
    seeds = screened.table("seeds").reset_index()
    names = np.array(ctx.classifier.class_names)
    for picture, rows in table.groupby("picture"):
        first = records(rows)[0]
        sample = records(where(seeds, **{"class": first["class"]}, sample_index=first["sample_index"]))[0]["index"]
        low, high = ranges.loc[first["unit"], ["minimum", "maximum"]]
        steps = []
        for step, value in enumerate(np.linspace(low, high, STEPS)):
            moved = r[sample].clone()
            moved[int(first["unit"])] = value
            w = load_link(link(ctx))(moved[None])[0]
            image = ctx.generator.synthesize(w[None])[0]
            assert (found["image"][picture, step] - 127.5 * (image + 1)).abs().max() <= 0.51  # pyright: ignore
            steps.append(look(ctx, w))
            np.testing.assert_allclose(rows[rows["step"] == step]["value"], value, rtol=1e-5)
        measures, answers = torch.stack([one[0] for one in steps]), torch.stack([one[1] for one in steps])
        torch.testing.assert_close(found["measures"][picture], measures, equal_nan=True, rtol=1e-4, atol=1e-4)  # pyright: ignore
        for _, example in rows.groupby("row"):
            check_rows(example, measures, answers, names)


def screened_of(ctx: Context) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        return tuning(ctx)


def check_rows(rows: pd.DataFrame, measures: Tensor, answers: Tensor, names: np.ndarray) -> None:
    """One example's rows of the table against the measures and answers of its images."""
    first: Any = rows.iloc[0]
    own = answers[:, list(names).index(first["class"])]
    np.testing.assert_allclose(rows["probability"], own, atol=1e-5)
    assert rows["prediction"].tolist() == names[answers.argmax(1)].tolist()
    assert rows["flipped"].tolist() == (answers.argmax(1) != answers[0].argmax()).tolist()
    if not first["label"]:
        np.testing.assert_allclose(rows["change"], own - own[0], atol=1e-5)
        return
    k, m = LABELS.index(first["label"]), MEASURES.index(first["measure"])
    np.testing.assert_allclose(rows["measured"], measures[:, k, m], rtol=1e-4, atol=1e-4)
    moved = [float(change(measures[0], measures[step])[k, m]) for step in range(STEPS)]
    np.testing.assert_allclose(rows["change"], moved, rtol=1e-3, atol=1e-3)


def test_every_step_of_the_screen_is_there_too(run: tuple[Context, Artifact]) -> None:
    """The first and last picture are those that were tuned."""
    ctx, artifact = run
    tuned = Tuned.of(screened_of(ctx))
    table = artifact.table("pictures")
    for row in dict.fromkeys(table["row"]):
        rows = where(table, row=row)
        first, measured = records(rows)[0], rows["measured"].tolist()
        if not first["label"]:
            continue
        p = int((tuned.unit == first["unit"]).nonzero())
        c = tuned.class_names.index(first["class"])
        s = int(((tuned.class_index == c) & (tuned.sample_index == first["sample_index"])).nonzero())
        ends = tuned.measures[p, s][:, tuned.labels.index(first["label"]), MEASURES.index(first["measure"])]
        np.testing.assert_allclose([measured[0], measured[-1]], ends[[0, -1]], rtol=1e-4, atol=1e-4)


def test_batches_do_not_matter_and_nothing_is_made_twice(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        assert pictures(ctx).manifest["created"] == artifact.manifest["created"]
        other = pictures(tuning_context(tmp_path, view__steps=STEPS, unit_statistics__examples=2, tuning__batch_size=2))
    assert other.key == artifact.key
    assert torch.equal(other.tensors("pictures")["image"], artifact.tensors("pictures")["image"])


def test_facts_name_labels_and_classes(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    assert artifact.json("facts") == {"labels": list(LABELS), "class_names": list(ctx.class_names)}
    assert artifact.tensors("pictures")["mask"].dtype == torch.uint8


def test_rounding_does_not_choose_between_two_samples() -> None:
    """Both are as far from their mean."""
    for shift in np.linspace(-1e-6, 1e-6, 21):
        assert typical(torch.tensor([[0.3, 0.7 + shift]])) == 0
        assert typical(torch.tensor([[torch.nan, 12.0, 3.0 + shift], [torch.nan, 2.0, 1.0 - shift]])) == 1


def test_large_images_are_kept_smaller() -> None:
    image = torch.randn(2, 3, 4 * LARGEST, 4 * LARGEST)
    assert smaller(image).shape == (2, 3, LARGEST, LARGEST)
    torch.testing.assert_close(smaller(image)[1, 2, 5, 7], image[1, 2, 20:24, 28:32].mean())
    assert smaller(image[..., :100, :100]).shape == (2, 3, 100, 100)


def test_a_link_that_fails_is_named() -> None:
    unit = Perturbation.of_unit(3, 0.0, 2.0)
    with pytest.raises(ValueError, match=r"no finite w for unit 3 between 0 and 2: .*link=ridge"):
        style_codes(Directions(lambda r: r / 0), torch.rand(2, 5), [(unit, 1)], 3)
