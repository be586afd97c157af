"""The sections on tuned units: sentences and tables say what the tables of the stages hold, whatever is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import findings, tuned_findings
from helpers.tuned_findings import CLASSES, LABELS, RARE

from lis.quantify.measures import MEASURES
from lis.report import faithfulness as arrives
from lis.report import pictures, relevance, traversal, tuning, unit
from lis.report import unit_map as order
from lis.report.faithfulness import faithfulness
from lis.report.metrics import collect_metrics
from lis.report.pictures import blocks
from lis.report.relevance import class_relevance
from lis.report.section import Maker, Section, build_sections
from lis.report.source import Source, colours, label_names, source
from lis.report.sparsity import sparsity
from lis.report.style import class_colours, label_colours
from lis.report.tables import column, known, mean, records, where
from lis.report.transfer import transfer
from lis.report.truth import truth
from lis.report.tuning import tuned_units
from lis.report.unit_map import unit_map
from lis.report.unit_statistics import measures
from lis.report.wording import changed, number, share, words
from lis.store import Artifact
from lis.units.tuned import Tuned

pytestmark = pytest.mark.usefixtures("page_style")

OF_UNITS = (
    "What arrives",
    "All units",
    "What units change",
    "Measures side by side",
    "Sparsity",
    "Class relevance",
    "Transfer between classes",
    "Map of units",
)
TRUTH = "Measured and true changes"


def unseen(own: Tuned) -> Tuned:
    """As if no image had any label."""
    return replace(own, measures=torch.full_like(own.measures, torch.nan))


UNUSUAL = {
    "robust": tuned_findings.tuned(12, 3, spread=0.0),
    "one class, one label": tuned_findings.tuned(6, 2, ("cap",), ("agaric",)),
    "one unit": tuned_findings.tuned(1, 1),
    "small": tuned_findings.tuned(8, 2, ("eye",)),
    "unseen": unseen(tuned_findings.tuned(8, 2)),
    "nine steps": tuned_findings.tuned(12, 3, steps=9),
}
"""Runs whose figures have little to show."""


def learn(root: Path, own: Tuned, directions: int = 25) -> dict[str, Artifact]:
    samples = len(own.class_index) // len(own.class_names)
    null = tuned_findings.tuned(directions, samples, own.labels, own.class_names, null=True, steps=own.value.shape[1])
    return tuned_findings.learn(root, own, null)


def read(root: Path, artifacts: dict[str, Artifact], names: tuple[str, ...] = CLASSES) -> Source:
    labels = artifacts["tuning"].json("facts")["labels"]
    return source(findings.make_ctx(root, names, classes__labels=labels), artifacts)


def sections(run: Source) -> dict[str, Section]:
    return {section.title: section for section in build_sections(run)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A run on dogs."""
    root = tmp_path_factory.mktemp("dogs")
    return read(root, learn(root, tuned_findings.tuned(40, 5)))


@pytest.fixture(scope="module")
def shown(run: Source) -> dict[str, Section]:
    return sections(run)


def edge(root: Path, own: Tuned, *makers: Maker, directions: int = 25) -> list[Section]:
    """Some sections of an unusual run."""
    run = read(root, learn(root, own, directions), own.class_names)
    found = [section for maker in makers if (section := maker(run)) is not None]
    for section in found:
        assert section.lead.endswith(".") and not re.search(r"\bnan\b|–", section.lead)
    return found


def names(section: Section) -> list[str]:
    return [picture.name for picture in section.figures]


@pytest.mark.parametrize("stage", ["truth", "pictures", "tuning"])
def test_sections_appear_exactly_when_their_artifact_exists(run: Source, stage: str) -> None:
    expected = [TRUTH] if stage == "truth" else []
    assert list(sections(Source(run.facts, {stage: run.artifacts[stage]}))) == expected


def test_names_of_figures_are_unique_and_captions_are_sentences(shown: dict[str, Section]) -> None:
    pictures = [picture for section in shown.values() for picture in section.figures]
    assert len({picture.name for picture in pictures}) == len(pictures) == 28
    assert all(picture.aside for picture in pictures if picture.name.endswith("-more"))
    for picture in pictures:
        assert (
            picture.caption[0].isupper()
            and picture.caption.rstrip().endswith((".", ")"))
            and "{" not in picture.caption
        )


@pytest.mark.parametrize("caption", [pictures.HOW_TO_READ, traversal._CAPTION, unit._TRAVERSAL])
def test_no_caption_says_that_the_picture_holds_what_only_r_does(caption: str) -> None:
    held = [sentence for sentence in caption.split(". ") if re.search(r"as they are|as it is", sentence)]
    assert len(held) == 1 and held[0].startswith("In the r that is asked for")
    assert "in the picture, encoded again" in held[0] and re.search("(they move|that moves) too", held[0])


def test_without_pictures_the_charts_stay(run: Source, shown: dict[str, Section]) -> None:
    found = sections(Source(run.facts, {"unit_statistics": run.artifacts["unit_statistics"]}))
    assert tuple(found) == OF_UNITS and tuple(shown) == (*OF_UNITS, TRUTH)
    for title, section in found.items():
        kept = [picture.name for picture in shown[title].figures if picture.kind != "photo"]
        assert [picture.name for picture in section.figures] == kept
        assert section.lead == shown[title].lead


def test_the_first_section_names_the_largest_change_of_area(run: Source, shown: dict[str, Section]) -> None:
    section, table = shown["What units change"], run.table("unit_statistics", "ranking")
    seen = known(where(table, interpreted=True), "change")
    area = where(seen, measure="area")
    top = records(area.assign(size=area["change"].abs()).nlargest(1, columns="size"))[0]
    by = changed("area", top["change"])
    assert "40 units went from" in section.lead
    assert (
        f"Unit {top['unit']} changes the area of a label most: {words(top['label'])} by {by} on average" in section.lead
    )
    larger = known(seen, "q")["larger"].to_numpy(dtype=bool)
    assert larger.tolist() == ((seen["q"] <= 0.05) & seen["reached"])[seen["q"].notna()].tolist()
    beyond = share(float((column(seen, "p_control") <= 0.05).mean()))
    tests = len(known(seen, "q"))  # 25 directions count no p that is small enough for any of so many
    undecided = "Whether any is larger than random directions cannot be decided with so few random directions (25)"
    assert undecided in section.lead and f"for q ≤ 0.05 one of {tests:,} tests needs p ≤ " in section.lead
    random = "those of random directions"
    assert f"{beyond} lie beyond 95 % of {random}, where chance alone would give 5 %" in section.lead
    decided = tuning._lead(table, "")
    assert f"{share(larger.mean())} are larger than {random} (q ≤ 0.05, and reached); {beyond} lie beyond" in decided
    reached = np.sum(run.table("unit_statistics", "faithfulness")["reached"])
    assert 0 < reached < 40 and f"{reached} of them are reached" in section.lead
    (control,) = section.notes
    assert "25 random directions and their opposites" in control
    assert control.endswith("not whether it does anything.")
    assert section.tables[0].caption.endswith("So few count a p down to 0.038 and no further.")
    assert section.finding == "Whether any unit changes a part beyond chance is undecided"
    called = "{} of 40 units {} a part more than random directions (q ≤ 0.05)"
    for first, verb in ((0, "change"), (39, "changes")):
        larger = table.assign(larger=table["unit"] >= first)
        assert tuning._finding(larger) == called.format(40 - first, verb)
    assert tuning._finding(table.assign(larger=False)) == called.format("None", "changes")


@pytest.mark.parametrize(("link", "along"), [("lr", "pattern"), ("lr", "closed"), ("fc_l1", "link")])
def test_where_the_null_was_not_measured_is_told(run: Source, link: str, along: str) -> None:
    settings = {**run.facts.settings, "tuning.along": along}
    other = replace(run, facts=replace(run.facts, link=link, settings=settings))
    told = "was measured of linear links along link and pattern, and not of this"
    assert (told in tuning._control(other)) == ((link, along) != ("lr", "pattern"))


def test_what_random_directions_rest_on_is_told(run: Source, shown: dict[str, Section]) -> None:
    """How far they go beside units, and how small a p can be, family by family."""
    facts = run.json("unit_statistics", "control")
    assert set(facts["tails"]) == {"larger", "relevant", "selective", "reached"}
    section = shown["What units change"]
    assert f"opposites move w by {number(facts['length_ratio'], 2)} of what units do" in section.notes[0]
    assert f"In {share(facts['clipped'])} of samples w stops before" in section.tables[0].caption
    assert collect_metrics(run.artifacts)["units/control_length"] == pytest.approx(facts["length_ratio"])
    light, heavy = ({"counted": counted, "variation": 0.7, "largest": 1.3} for counted in (0.2, 1.0))
    fitted = "So many count a p down to 0.015; smaller ones are those of a tail fitted to the largest fifth of them, "
    told = tuning._resolution(1 / 65, {"larger": light, "selective": heavy, "reached": light | {"counted": 0.0}})
    assert told == fitted + "where that is light enough: 80 % of larger and 100 % of reached."
    none = "So many count a p down to 0.015 and no further: in no family of tests is their tail light enough"
    assert tuning._resolution(1 / 65, {"larger": heavy}).startswith(none)
    assert tuning._resolution(1 / 20, {"larger": {"counted": 1.0}}) == "So few count a p down to 0.050 and no further."


def test_the_table_has_the_first_units_of_every_label_and_measure(run: Source, shown: dict[str, Section]) -> None:
    table, ranking = shown["What units change"].tables[0], run.table("unit_statistics", "ranking")
    assert [row[0] for row in table.rows] == [label + " (too small)" * (label == "eye") for label in LABELS]
    assert list(table.columns) == ["label", *MEASURES]
    for line, label in enumerate(LABELS):
        for place, measure in enumerate(MEASURES, 1):
            own = records(where(ranking, label=label, measure=measure))[:3]
            facts = [changed(measure, own[0]["change"])]
            facts += [f"R {number(own[0]['resultant'], 2)}"] * (measure == "angle")
            facts += [f"{own[0]['n']}/{own[0]['samples']}"] * (own[0]["n"] < own[0]["samples"])
            first = f"{own[0]['unit']} ({', '.join(facts)})"
            assert table.rows[line][place] == f"{first}, {own[1]['unit']}, {own[2]['unit']}"
            assert (own[0]["n"] < own[0]["samples"]) == (label == RARE)
            assert ((line, place) in table.best) == own[0]["larger"]


def test_measures_are_compared_with_chance_and_a_normal_distribution(run: Source, shown: dict[str, Section]) -> None:
    section, test = shown["Measures side by side"], run.table("unit_statistics", "distribution")
    lead = section.lead
    mean = column(run.table("unit_statistics", "overlap"), "overlap").mean()
    chance = number(10 * 10 / 40, 2)
    assert section.finding == f"Two measures share {number(mean, 2)} of their first 10 units, {chance} by chance"
    assert all(picture.aside for picture in section.figures if picture.kind == "chart")
    tails = column(test, "kurtosis")
    assert column(test, "p_normal").max() < 0.05 and "not normally distributed in area, luminance," in lead
    assert f"between {number(tails.min(), 2)} and {number(tails.max(), 2)}" in lead


def test_sparsity_stands_beside_its_null(run: Source, shown: dict[str, Section]) -> None:
    section = shown["Sparsity"]
    own, null = (run.table("unit_statistics", f"label_sparsity{end}") for end in ("", "_control"))
    mean, random = (number(column(where(t, measure="area"), "sparsity").mean(), 2) for t in (own, null))
    assert section.finding == f"Label sparsity of a unit is {mean} on average, of random directions {random}"
    assert section.lead.startswith("That is of the changes of area; it is largest for")
    by_units = where(run.table("unit_statistics", "unit_sparsity"), measure="area").sort_values("sparsity")
    least, most = (words(str(label)) for label in by_units["label"].iloc[[0, -1]])
    assert (
        f"area of {most} depends on the fewest units" in section.lead and f"that of {least} on the most" in section.lead
    )
    pug = [column(where(t, measure="all", **{"class": "pug"}), "sparsity").mean() for t in (own, null)]
    assert section.tables[0].rows[1][-1] == f"{number(pug[0], 2)} ({number(pug[1], 2)})"


def test_the_map_names_the_commonest_label_and_the_most_selective_branch(
    run: Source, shown: dict[str, Section]
) -> None:
    section = shown["Map of units"]
    lead = section.lead
    reached = run.table("unit_statistics", "faithfulness")["reached"].to_numpy(bool)
    counts = pd.Series(run.table("unit_statistics", "map")["label"].to_numpy()[reached]).value_counts()
    assert f"changes the {counts.index[0]} most ({counts.iloc[0]} of {reached.sum()})" in lead
    both = where(run.table("unit_statistics", "faithfulness"), reached=True)
    own, control = (float(column(both, name).mean()) for name in ("selectivity", "selectivity_control"))
    told = f"The main label has {share(own)} of a unit's change of areas, {share(control)} in random directions"
    assert section.finding == told and order._finding(where(run.table("unit_statistics", "map"), unit=-1), True) == (
        "No unit is reached, so that none stands for a label"
    )
    shares = {}
    for row in records(run.table("unit_statistics", "clusters")):
        values = {label: row[label] for label in LABELS if label in row}
        shares[row["cluster"]] = max(values.values()) / sum(values.values())
    best = max(shares, key=lambda name: shares[name])
    named = f"Number {best} (" in lead and f"makes up {share(shares[best])} of its change" in lead
    assert named is (shares[best] > control)  # none is called selective that is less so than random directions
    clusters = run.table("unit_statistics", "clusters")
    alone = clusters.assign(**{label: float(label == LABELS[0]) for label in LABELS if label in clusters})
    assert "is the most selective" in order._lead(alone, both.assign(label=LABELS[0]))


def test_relevance_counts_units_and_names_robust_classes(run: Source, shown: dict[str, Section]) -> None:
    section, table = shown["Class relevance"], run.table("unit_statistics", "relevance")
    counts = table[table["relevant"]].groupby("unit").size()
    assert f"{len(counts)} of 40 units change the probability of a class by 0.15 or more" in section.lead
    assert f"{(counts > 1).sum()} of them for more than one class and at most for {counts.max()} of 3" in section.lead
    assert "No unit is relevant for border collie." in section.lead
    assert section.finding == "Whether any unit changes an answer beyond chance is undecided"
    null = "No unit changes an answer more than random directions do (q ≤ 0.05)"
    assert relevance._finding(table.assign(larger=False), 0.15, True) == null
    called = f"{len(counts)} of 40 units change an answer more than random directions (q ≤ 0.05)"
    assert relevance._finding(table.assign(larger=True), 0.15, True) == called
    top = records(table.nlargest(1, columns="relevance"))[0]
    assert f"unit {top['unit']} for {words(top['class'])}" in section.lead
    rows = {row[0]: row for row in section.tables[0].rows}
    pug = next(row for row in records(run.table("unit_statistics", "robustness")) if row["class"] == "pug")
    assert rows["pug"][1:4] == [number(pug["mean"], 2), number(pug["median"], 2), str(pug["relevant"])]
    assert rows["pug"][4] == share(pug["control"])  # 25 directions decide nothing of 120 tests
    assert "Whether any is relevant beyond random directions cannot be decided" in section.lead
    larger = len(set(where(table, relevant=True, larger=True)["unit"]))
    sets = {name: set(where(table, **{"class": name}, relevant=True)["unit"]) for name in CLASSES}
    assert f"{share(mean(table, 'control'))} of units and classes" in section.lead
    assert f"{larger} of the relevant units do more than a random mixture" in relevance._lead(table, sets, 0.15, True)


def test_transfer_counts_directions_that_all_classes_share(run: Source, shown: dict[str, Section]) -> None:
    table, section = run.table("unit_statistics", "transfer"), shown["Transfer between classes"]
    lead = section.lead
    groups = [np.sign(own["change"].dropna()) for _, own in table.groupby(["label", "measure"])]
    several = [signs for signs in groups if len(signs) > 1]  # an angle may have no mean in a class
    same = sum(len(set(signs)) == 1 for signs in several)
    assert len(several) >= 19 and f"for {same} of {len(several)} pairs of a label and a measure" in lead
    r = column(where(run.table("unit_statistics", "agreement"), measure="area"), "r").mean()
    random = column(where(run.table("unit_statistics", "agreement"), measure="area"), "control").mean()
    said = f"correlate at {r:+.2f} ({random:+.2f} over random directions) for area".replace("-", "−")
    assert said in lead
    firsts = run.table("unit_statistics", "transfer_control").groupby(["label", "measure"])
    several = [signs for signs in (np.sign(own["change"].dropna()) for _, own in firsts) if len(signs) > 1]
    same = sum(len(set(signs)) == 1 for signs in several)
    assert f"and the first of the random directions for {same} of {len(several)}" in lead
    assert section.finding.startswith("First units act alike in all classes")


def test_what_arrives_is_the_median(run: Source, shown: dict[str, Section]) -> None:
    table, lead = run.table("unit_statistics", "faithfulness"), shown["What arrives"].lead
    assert f"shows {share(float(np.median(column(table, 'reencoded_share'))))} of the change that was asked" in lead
    assert f"move by {number(column(table, 'others').mean(), 2)} of their standard deviations" in lead
    assert "Whether any is more selective than random directions cannot be decided" in lead
    assert f"{share(mean(table, 'selective'))} of the units are more selective" in arrives._selective(table)
    reached = f"{np.sum(table['reached'])} of {len(table)} units are reached"
    assert reached in lead
    assert shown["What arrives"].finding == f"{reached} (q ≤ 0.05, beside random directions)"
    assert arrives._finding(table.assign(reached=table["unit"] == 3)).startswith("1 of 40 units is reached")
    nothing = "None of 40 units is reached: none moves more than by random directions"
    assert arrives._finding(table.assign(reached=False)) == nothing
    random = share(float(np.median(column(table, "reencoded_control"))))
    assert f"Random directions that move w as far change the same units by {random} of it" in lead


def test_truth_begins_with_extent(run: Source, shown: dict[str, Section]) -> None:
    section, summary = shown[TRUTH], run.json("truth", "summary")
    table = run.table("truth", "agreement")
    rho = f"{summary['extent']['spearman']:+.2f}"
    assert f"Spearman's ρ is {rho}" in section.lead
    chance = number(1.96 / 39**0.5, 2)
    assert section.finding == f"Measured changes rank units as true ones do: ρ {rho} (by chance < {chance})"
    assert f"{number(summary['extent']['overlap'], 2)} of the first 10 units" in section.lead
    assert "and 40 units" in section.lead and "over 15 samples" in section.lead
    own = where(table, measure="angle", interpreted=True)
    row = next(row for row in section.tables[0].rows if row[0] == "angle")
    assert row[1:] == [
        number(column(own, key).mean(), 2) for key in ("spearman", "overlap", "spearman_seed", "overlap_seed")
    ]
    assert section.notes == ["Left out of the means, as too small to be interpreted: eye."]


def test_pictures_belong_to_their_rows(run: Source) -> None:
    """Images, outlines, curves, numbers and colours of every block."""
    table, arrays = run.table("pictures", "pictures"), run.arrays("pictures", "pictures")
    for figure in dict.fromkeys(table["figure"]):
        found = [row for block in blocks(run, figure) for row in block.rows]
        rows = [own for _, own in where(table, figure=figure).groupby("row", sort=False)]
        assert len(found) == len(rows)
        for row, own in zip(found, rows, strict=True):
            first, last = records(own)[0], records(own)[-1]
            picture = first["picture"]
            np.testing.assert_array_equal(row.image, arrays["image"][picture])
            np.testing.assert_allclose(row.curve, own["change"])
            assert row.change == changed(first["measure"], last["change"])
            if first["label"]:
                assert row.mask is not None and row.colour == label_colours(LABELS)[first["label"]]
                place = 1 + LABELS.index(first["label"])
                np.testing.assert_array_equal(row.mask, arrays["mask"][picture] == place)
            else:
                assert row.mask is None and row.colour == class_colours(CLASSES)[first["class"]]
                assert list(row.corner) == [f"{p:.2f}" for p in own["probability"]]
                assert row.flipped is not None and row.flipped.tolist() == own["flipped"].tolist()


def test_titles_of_blocks(run: Source) -> None:
    assert [block.title for block in blocks(run, "measures")] == list(MEASURES)
    shared = blocks(run, "shared")[0]
    assert [row.name for row in shared.rows] == [words(name) for name in CLASSES] and shared.detail == "r from 0 to 2.0"
    first = records(where(run.table("pictures", "pictures"), figure="transfer", block=0))[0]
    assert blocks(run, "transfer")[0].title == f"{first['label']}: area · unit {first['unit']}"
    assert blocks(run, "nothing") == []


def test_label_names_come_from_whatever_stage_is_there(run: Source) -> None:
    for stage in ("tuning", "pictures", "unit_statistics", "truth"):
        assert label_names(Source(run.facts, {stage: run.artifacts[stage]})) == list(LABELS)
    empty = Source(run.facts, {})
    assert label_names(empty) == [] and colours(empty) == {}


def test_no_relevant_unit_is_a_sentence(tmp_path: Path) -> None:
    (found,) = edge(tmp_path, tuned_findings.tuned(12, 3, spread=0.001), class_relevance)
    assert "No single unit changes the probability of a class by 0.15 or more" in found.lead
    assert "every class is robust to single units at this threshold" in found.lead
    assert found.finding == "No single unit changes a class's probability by 0.15 or more on average"
    assert "relevant-units" not in names(found) and "relevance" in names(found)
    shared = next(picture for picture in found.figures if picture.name == "unit-shared")
    assert shared.caption.startswith("The unit with the largest mean rel")


def test_answers_that_never_change(tmp_path: Path) -> None:
    own = tuned_findings.tuned(6, 3)
    own = replace(own, probability=own.probability[:, :, :1].expand(-1, -1, 2, -1).contiguous())
    (found,) = edge(tmp_path, replace(own, prediction=own.probability.argmax(3)), class_relevance)
    assert "relevance-correlation" not in names(found)


def test_one_class_and_one_label(tmp_path: Path) -> None:
    own = tuned_findings.tuned(6, 2, ("cap",), ("agaric",))
    across, answers, compared, arrives = edge(
        tmp_path, own, transfer, class_relevance, measures, faithfulness, directions=4
    )
    assert across.lead == "There is one class: nothing to transfer to."
    assert not {"relevance-correlation", "relevant-units"} & set(names(answers))
    assert "too few changes" in compared.lead and "unit-changes" not in names(compared)
    assert "selective" not in arrives.lead and "Right" not in arrives.figures[0].caption


def test_one_unit_on_one_sample_without_random_directions(tmp_path: Path) -> None:
    own = tuned_findings.tuned(1, 1, LABELS[:3], CLASSES[:2])
    first, order, true = edge(tmp_path, own, tuned_units, unit_map, truth, directions=0)
    assert first.lead.startswith("1 unit went") and "too few random directions (0)" in first.lead
    assert not first.tables[0].best
    assert not order.figures and "too few units" in order.notes[0]
    assert "No measured change has a true one" in true.lead


@pytest.mark.parametrize("directions", [0, 4, 18])
def test_too_few_random_directions_call_nothing(tmp_path: Path, directions: int) -> None:
    """Said once, and no unit is told or drawn as if it had not been reached."""
    makers = (tuned_units, unit_map, class_relevance, faithfulness)
    own = tuned_findings.tuned(12, 3)
    artifacts = learn(tmp_path, own, directions)
    run = read(tmp_path, artifacts, own.class_names)
    found = [section for maker in makers if (section := maker(run)) is not None]
    told = " ".join(s.lead + " ".join([p.caption for p in s.figures] + [t.caption for t in s.tables]) for s in found)
    assert told.count(f"too few random directions ({directions}) to call any unit") == 1
    assert [section.finding for section in (found[0], found[3])] == [
        "Whether any unit changes a part beyond chance is undecided",
        "Which units are reached is undecided: too few random directions",
    ]
    assert found[1].finding.endswith("; which are reached is undecided")
    assert not found[0].notes
    assert told.count("reached") == 2  # there, and of units that are relevant "whether they are reached or not"
    assert "than a random mixture" not in told and not re.search(r"\bnan\b", told)
    numbers = collect_metrics({"unit_statistics": artifacts["unit_statistics"]})
    assert "units/reached" not in numbers and "units/own" in numbers


@pytest.mark.parametrize(("units", "decided"), [(1, True), (12, False)])
def test_a_run_can_call_one_unit_from_19_directions_on(tmp_path: Path, units: int, decided: bool) -> None:
    """And of twelve only all at once, since each p is 0.05 at least: that none is reached is not said."""
    artifacts = learn(tmp_path, tuned_findings.tuned(units, 3), 19)
    assert ("units/reached" in collect_metrics({"unit_statistics": artifacts["unit_statistics"]})) == decided


def test_the_page_says_how_much_of_a_head_is_left(run: Source, shown: dict[str, Section]) -> None:
    table: Any = run.table("unit_statistics", "heads")
    table = table.assign(left=table["crossfit"] / table["chosen"])
    assert set(table["label"]) == set(LABELS) - {"eye"}
    caption = next(each.caption for each in shown["What units change"].figures if each.name == "unit-ranking")
    for measure in MEASURES:
        assert f"{share(mean(where(table, measure=measure), 'left'))} for {measure}" in caption
    numbers = collect_metrics({"unit_statistics": run.artifacts["unit_statistics"]})
    assert numbers["units/head_kept"] == pytest.approx(mean(table, "left"))


def test_labels_too_small_to_be_interpreted(tmp_path: Path) -> None:
    makers = (tuned_units, measures, sparsity, unit_map, transfer, truth)
    *nothing, true = edge(tmp_path, tuned_findings.tuned(8, 2, ("eye",)), *makers)
    assert len(nothing) == 5 and not any(section.figures for section in nothing)
    assert all("enough to be interpreted" in section.lead for section in [*nothing, true]) and true.figures
    assert [section.finding for section in [*nothing, true]] == [
        "No label is seen well enough to say what units change",
        "No label is large enough to compare measures",
        "Fewer than two labels are large enough to compare",
        "No label is large enough for a map of units",
        "No label is large enough to compare classes",
        "No label is large enough to hold measured changes against the true ones",
    ]


def test_labels_that_are_never_seen(tmp_path: Path) -> None:
    first, true = edge(tmp_path, unseen(tuned_findings.tuned(8, 2)), tuned_units, truth)
    assert "No label is seen well enough" in first.lead and "No measured change has a true one" in true.lead


def test_a_label_that_is_never_seen_beside_others(tmp_path: Path) -> None:
    own = tuned_findings.tuned(8, 3)
    own.measures[:, :, :, LABELS.index("snout")] = torch.nan
    (section,) = edge(tmp_path, own, tuned_units)
    assert ["snout (never seen)", *["–"] * 5] in [list(row) for row in section.tables[0].rows]


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("area", 1.0, "+100 %"),
        ("area", -1.0, "−50 %"),
        ("relative", 1.5, "+150 %"),
        ("luminance", 0.0995, "+10 %"),
        ("luminance", 0.099, "+9.9 %"),
        ("luminance", -0.004, "−0.4 %"),
        ("angle", 9.94, "+9.9°"),
        ("angle", -35.4, "−35°"),
        ("eccentricity", 0.0, "0.00"),
        ("entropy", -0.5, "−0.50 bit"),
        ("probability", 0.25, "+0.25"),
        ("area", float("nan"), "–"),
    ],
)
def test_changes_are_written_with_sign_and_unit(measure: str, value: float, text: str) -> None:
    assert changed(measure, value) == text


@pytest.mark.slow
@pytest.mark.parametrize("own", UNUSUAL.values(), ids=UNUSUAL)
def test_every_figure_of_an_unusual_run_can_be_drawn(tmp_path: Path, own: Tuned) -> None:
    found = sections(read(tmp_path, learn(tmp_path, own, directions=0 if len(own.unit) == 1 else 9), own.class_names))
    assert tuple(found) == (*OF_UNITS, TRUTH)
    for picture in (picture for section in found.values() for picture in section.figures):
        picture.figure.draw_without_rendering()
