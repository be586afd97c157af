"""The sections on the decision boundary say what the tables of the stages hold, whatever is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
from helpers import boundary_findings as made
from helpers import findings
from helpers.tuned_findings import CLASSES

from lis.quantify.measures import TOLD
from lis.report.gradcam import _bars
from lis.report.html import show
from lis.report.metrics import collect_metrics
from lis.report.page import write_report
from lis.report.section import Section, build_sections
from lis.report.source import Source, source
from lis.report.tables import column, known, records, where
from lis.report.trajectories import _largest, across_the_boundary
from lis.report.wording import changed, number, share, words
from lis.store import Artifact, Draft, Recipe, Store

TITLES = {
    "counterfactuals": "Counterfactuals",
    "trajectories": "Across the decision boundary",
    "gradcam": "GradCAM at the boundary",
    "initialisations": "Starts and sparsity",
    "sparse_counterfactuals": "Fewer units",
    "boundary_truth": "Counterfactuals and the truth",
    "adversarial": "Steps in pixels",
    "gan_counterfactuals": "Another class from the same z",
}


def read(root: Path, artifacts: dict[str, Artifact]) -> Source:
    return source(findings.make_ctx(root, CLASSES, classes__labels=list(made.LABELS)), artifacts)


def sections(run: Source) -> dict[str, Section]:
    return {section.title: section for section in build_sections(run)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("boundary")
    return read(root, made.all_artifacts(root))


@pytest.fixture(scope="module")
def shown(run: Source) -> dict[str, Section]:
    return sections(run)


def test_sections_appear_exactly_when_their_artifact_exists(run: Source, shown: dict[str, Section]) -> None:
    assert tuple(shown) == tuple(TITLES.values())
    for stage, title in TITLES.items():
        expected = [] if stage == "gradcam" else [title]  # whose pictures are those of the trajectories
        assert list(sections(Source(run.facts, {stage: run.artifacts[stage]}))) == expected


def test_leads_captions_and_names_are_whole(shown: dict[str, Section]) -> None:
    pictures = [picture for section in shown.values() for picture in section.figures]
    assert len({picture.name for picture in pictures}) == len(pictures) == 17
    for picture in pictures:
        assert picture.caption[0].isupper() and picture.caption.endswith(".") and "{" not in picture.caption
    for section in shown.values():
        assert section.lead.endswith(".") and not re.search(r"\bnan\b|–|\{", section.lead)
        for table in section.tables:
            assert all(len(row) == len(table.columns) for row in table.rows)


def test_success_is_counted_and_failures_are_told(run: Source, shown: dict[str, Section]) -> None:
    section, table = shown["Counterfactuals"], run.table("counterfactuals", "counterfactuals")
    good = len(where(table, success=True))
    assert section.lead.startswith(f"{good} of 24 counterfactuals ({share(good / 24)}) reach their target")
    pairs = run.table("counterfactuals", "pairs")
    worst = next(row for row in records(pairs.sort_values("rate", kind="stable")) if row["origin"] != "all")
    assert (
        f"The hardest is {words(worst['origin'])} to {words(worst['target'])}: {share(worst['rate'])}" in section.lead
    )
    pairs_told, said, failed = section.tables
    assert len(pairs_told.rows) == 7 and pairs_told.rows[-1][0] == "all"
    assert failed.rows == [["r + Δr is the target, as the loss wants it; its image is not", str(24 - good)]]
    told = records(run.table("counterfactuals", "witnessed"))
    assert [row[0] for row in said.rows] == ["Bayes' rule", "another network"] and len(told) == 2
    for row in told:
        name = {"bayes": "Bayes' rule", "witness": "another network"}[row["who"]]
        assert (
            f"{name} calls {share(row['share'])} of all the target and {share(row['origin'])} still the original"
            in section.lead
        )


def test_where_nobody_else_was_asked_the_page_says_so(run: Source, tmp_path: Path) -> None:
    def build(draft: Draft) -> None:
        for name in ("counterfactuals", "pairs"):
            draft.table(name, run.table("counterfactuals", name))
        draft.table("witnessed", run.table("counterfactuals", "witnessed").iloc[:0])
        draft.json("facts", run.json("counterfactuals", "facts") | {"until": 0.9, "objective": "link", "near": 0.01})

    alone = Store(tmp_path).make(Recipe("counterfactuals", 1, {"test": "alone"}), build)
    section = sections(Source(run.facts, {"counterfactuals": alone}))["Counterfactuals"]
    assert "with a probability of 0.90 or more when" in section.lead and "the logits of r + Δr" in section.lead
    assert "w held near the target's training pairs (weight 0.01)" in section.lead
    assert section.lead.endswith("nobody else was asked (counterfactuals.witness=<classifier>).")
    assert len(section.tables) == 2


def test_the_step_across_is_compared_with_an_equal_share(run: Source, shown: dict[str, Section]) -> None:
    section, steps = shown["Across the decision boundary"], run.table("trajectories", "steps")
    shares = []
    for row in records(run.table("trajectories", "trajectories")):
        own = where(steps, trajectory=row["trajectory"])
        p = own["probability"].to_numpy()
        at = int((own["position"].to_numpy() < row["boundary"]).sum())
        shares.append(abs(p[at] - p[at - 1]) / np.abs(np.diff(p)).sum())
    assert f"brings {share(float(np.mean(shares)))} of the whole change of the target's probability" in section.lead
    assert f"and {share(1 / 8)} of the change of the pixels (an equal share would be {share(1 / 8)})" in section.lead
    assert "area of leg" in section.lead and "8.0 times its mean step" in section.lead
    assert section.notes == [
        "LPIPS is left out: no weights.",
        "Not shown: pug → chihuahua (no search succeeded).",
    ]
    jumps = known(where(run.table("trajectories", "jumps"), trajectory=0, interpreted=True), "jump")
    told = [row for row in records(jumps) if row["measure"] in ("area", "luminance", "entropy")]
    row = max(told, key=lambda row: row["score"])
    told = f"{words(row['label'])}: {row['measure']} {changed(row['measure'], row['jump'])} ({number(row['score'], 2)})"
    assert section.tables[0].rows[0][2] == told


def test_heat_on_the_background_is_told(run: Source, shown: dict[str, Section]) -> None:
    own = where(run.table("gradcam", "heat"), image="after", of="target", label="background")
    moved = column(where(run.table("gradcam", "around"), of="target"), "moved").mean()
    section = shown["GradCAM at the boundary"]
    assert f"lays {share(column(own, 'share').mean())} of its heat on the background" in section.lead
    assert f"{share(moved)} of its heat moves" in section.lead
    assert section.tables[0].rows[0][3] == share(column(own, "share").mean())


def test_sparsity_names_the_least_and_the_most_sparse_pair(run: Source, shown: dict[str, Section]) -> None:
    section, pairs = shown["Starts and sparsity"], run.table("initialisations", "pair_sparsity")
    first, last = records(pairs.sort_values("mean"))[0], records(pairs.sort_values("mean"))[-1]
    mean = number(column(run.table("initialisations", "sparsity"), "sparsity").mean(), 2)
    assert f"sparsity of {mean} on average" in section.lead
    assert (
        f"Least sparse is {words(first['origin'])} → {words(first['target'])} ({number(first['mean'], 2)})"
        in section.lead
    )
    assert f"most {words(last['origin'])} → {words(last['target'])}" in section.lead
    assert section.tables[0].rows == [["border collie → pug", "3 (100 %, +2.00), 9 (50 %, −1.00)"]]


def test_the_penalty_that_costs_a_tenth_is_found(shown: dict[str, Section]) -> None:
    lead = shown["Fewer units"].lead
    assert "With an L1 weight of 0 a counterfactual moves 38 units (median) and 90 % reach their target" in lead
    assert "with 0.10 it moves 20 units, 90 % reach it" in lead and "is 0.55 instead of 0.60" in lead
    table = shown["Fewer units"].tables[0]
    assert table.columns[-1] == "Bayes' rule agrees" and [row[-1] for row in table.rows] == [
        "45 %",
        "45 %",
        "36 %",
        "9 %",
    ]


def test_the_truth_is_held_against_the_classifier(shown: dict[str, Section]) -> None:
    section = shown["Counterfactuals and the truth"]
    assert "Of 24 counterfactuals" in section.lead and "60 % truly are of that class" in section.lead
    assert "70 % get there, in the median 0.21 of the path after the classifier's boundary" in section.lead
    assert "mean cosine of 0.45" in section.lead and len(section.tables[0].rows) == 6


def test_steps_in_pixels_are_counted(run: Source, shown: dict[str, Section]) -> None:
    section, table = shown["Steps in pixels"], run.table("adversarial", "adversarial")
    ratio = float(np.median(table["mse_counterfactual"] / table["mse_adversarial"]))
    assert f"change {number(ratio, 2)} times smaller" in section.lead and "of a counterfactual's 60 %" in section.lead
    assert section.tables[0].rows[0] == ["area", "23 %", "0.7 %"]


def test_another_class_names_parts_and_units(run: Source, shown: dict[str, Section]) -> None:
    section = shown["Another class from the same z"]
    arrived = column(run.table("gan_counterfactuals", "samples"), "arrived").mean()
    assert section.lead.startswith(f"{share(arrived)} of 24 samples are called by their new class")
    pair = {"origin": "border_collie", "target": "pug"}
    area = records(where(run.table("gan_counterfactuals", "measures"), measure="area", rank=1, **pair))[0]
    assert f"area of the {words(area['label'])} ({changed('area', area['change'])})" in section.lead
    unit = records(where(run.table("gan_counterfactuals", "units"), **pair))[0]
    assert section.tables[0].rows[0][1].startswith(f"{unit['unit']} (+{unit['change']:.2f};")
    (row,) = records(run.table("gan_counterfactuals", "witnessed"))
    assert row["share"] == arrived and section.tables[1].rows[0][0] == "Bayes' rule"
    assert section.lead.endswith(f"Bayes' rule calls {share(arrived)} of all the target and 0 % still the original.")


def test_metrics(run: Source) -> None:
    found = collect_metrics(run.artifacts)
    table = where(run.table("counterfactuals", "counterfactuals"), success=True)
    assert found["counterfactuals/reached"] == pytest.approx(len(table) / 24)
    assert found["counterfactuals/steps"] == np.median(table["steps"])
    assert found["boundary_truth/gap_median"] == 0.21 and found["adversarial/reached"] == 1
    own = where(run.table("gradcam", "heat"), image="after", of="target", label="background")
    assert found["gradcam/background"] == pytest.approx(own["share"].mean())
    assert {"initialisations/cosine", "gan_counterfactuals/arrived", "adversarial/mse_ratio"} <= set(found)
    for stage, who in (("counterfactuals", {"bayes", "witness"}), ("gan_counterfactuals", {"bayes"})):
        said = run.table(stage, "witnessed").set_index("who")["share"]
        assert {name: found[f"{stage}/{name}_agrees"] for name in who} == dict(said)
        assert sum(name.startswith(f"{stage}/") and name.endswith("_agrees") for name in found) == len(who)


def test_a_run_in_which_nothing_is_found(tmp_path: Path) -> None:
    artifacts = made.all_artifacts(tmp_path, rate=0.0)
    run = read(tmp_path, artifacts)
    found = sections(run)
    assert "GradCAM at the boundary" not in found
    for title in ("Across the decision boundary", "Starts and sparsity", "Fewer units", "Steps in pixels"):
        assert not found[title].figures and found[title].lead.endswith(".")
    assert found["Counterfactuals"].lead.startswith("0 of 24 counterfactuals (0 %)")
    metrics = collect_metrics(artifacts)
    assert metrics["counterfactuals/reached"] == 0 and "counterfactuals/steps" not in metrics
    page = write_report(
        findings.make_ctx(tmp_path, CLASSES, classes__labels=list(made.LABELS)), artifacts, tmp_path / "out"
    )
    assert page.stat().st_size > 50_000


def without_parts(root: Path, artifact: Artifact, blank: bool) -> Artifact:
    """A stage that knows no labels, or (`blank`) never sees one."""

    def build(draft: Draft) -> None:
        for file in artifact.manifest["files"]:
            name, _, kind = file.partition(".")
            if kind == "parquet":
                draft.table(name, _unlabelled(artifact.table(name), blank))
            elif kind == "safetensors":
                draft.tensors(name, artifact.tensors(name))
            else:
                facts = artifact.json(name)
                draft.json(name, facts if blank or "labels" not in facts else facts | {"labels": []})

    return Store(root).make(Recipe("blank", 1, {"stage": artifact.key, "blank": blank}), build)


def _unlabelled(table: pd.DataFrame, blank: bool) -> pd.DataFrame:
    """Without the rows of parts, or with none that is interpreted or known."""
    if "label" not in table or "unit" in table:
        return table.assign(label="") if "label" in table else table
    if not blank:
        return where(table, label="background")
    numbers = [name for name in table.select_dtypes("number") if name not in ("trajectory", "step", "position", "n")]
    known = table["label"] == "background"
    table = table.assign(**{name: table[name].where(known).astype(float) for name in numbers if name != "rank"})
    return table.assign(**({"interpreted": False, "rank": 0} if "interpreted" in table else {}))


@pytest.mark.parametrize("blank", [False, True])
def test_without_parts_nothing_of_them_is_drawn(run: Source, tmp_path: Path, blank: bool) -> None:
    bare = {stage: without_parts(tmp_path, artifact, blank) for stage, artifact in run.artifacts.items()}
    found = sections(Source(run.facts, bare))
    assert tuple(found) == tuple(TITLES.values())
    for title in ("Across the decision boundary", "Steps in pixels"):
        assert not found[title].tables
    across, gradcam = found["Across the decision boundary"], found["GradCAM at the boundary"]
    evolutions = [picture for picture in across.figures if "evolution" in picture.name]
    assert evolutions and not any("the change of every part" in picture.caption for picture in evolutions)
    assert len(gradcam.figures[0].figure.axes) == len(run.table("trajectories", "trajectories"))  # no bars
    if not blank:
        assert not gradcam.tables and "background" not in gradcam.lead
        assert "gradcam/background" not in collect_metrics(bare)
    names = [picture.name for picture in found["Another class from the same z"].figures]
    assert names == ["gan-counterfactuals", "gan-counterfactuals-units"]
    for section in found.values():
        assert section.lead.endswith(".") and not re.search(r"\bnan\b|\{", section.lead)
        show(section, tmp_path / "figures")


def test_shares_of_a_step_are_of_the_span_and_of_told_measures(run: Source, tmp_path: Path) -> None:
    """A measure that goes from −0.6 over the boundary to +0.57 has a jump of 1.17 of its largest change."""
    steps = made.STEPS
    jumps = run.table("trajectories", "jumps")
    jumps = jumps.assign(jump=1.17, elsewhere=0.1, interpreted=jumps["label"] != "eye")
    measures = run.table("trajectories", "measures")
    course = np.array([0.0, *[-0.6] * (steps // 2), *[0.57] * (steps - 1 - steps // 2)])
    measures = measures.assign(change=course[measures["step"]])

    def build(draft: Draft) -> None:
        draft.table("jumps", jumps)
        draft.table("measures", measures)
        draft.json("facts", run.json("trajectories", "facts"))

    walked = Store(tmp_path).make(Recipe("trajectories", 1, {"test": "shares"}), build)
    bars = _bars(Source(run.facts, {"trajectories": walked}), 0)
    assert len(bars) == 6 and all(bar.jump == pytest.approx(1) and 0 <= bar.elsewhere <= 1 for bar in bars)
    assert {bar.name.split(": ")[1] for bar in bars} <= {"area", "luminance", "entropy"}
    assert not any(bar.name.startswith("eye") for bar in bars)


BOUNDARY = (
    "Parts change no more sharply at the boundary than elsewhere on the path",
    "Too few steps to say whether parts change most sharply at the boundary",
    "Parts change most sharply at the boundary",
)


def across(run: Source, root: Path, change: Callable[[str, float, float], float]) -> tuple[str, str]:
    """The heading and the lead of a run whose parts change by `change(label, position, noise)`."""
    rng, measures = np.random.default_rng(0), run.table("trajectories", "measures")
    values = [
        change(row["label"], row["position"], rng.normal(0, 0.02)) * (row["measure"] == "area")
        for row in records(measures)
    ]
    artifact = run.artifacts["trajectories"]

    def build(draft: Draft) -> None:
        for name in ("trajectories", "steps", "jumps"):
            draft.table(name, artifact.table(name).assign(**({"interpreted": True} if name == "jumps" else {})))
        draft.table("measures", measures.assign(change=values))
        draft.tensors("trajectories", artifact.tensors("trajectories"))
        draft.tensors("around", artifact.tensors("around"))
        draft.table("around", artifact.table("around"))
        draft.json("facts", artifact.json("facts"))

    walked = Store(root).make(Recipe("trajectories", 1, {"test": "finding"}), build)
    section = across_the_boundary(Source(run.facts, {"trajectories": walked}))
    assert section is not None
    return section.finding, section.lead


def test_the_heading_tells_of_the_test_and_the_lead_of_the_largest_change(run: Source, tmp_path: Path) -> None:
    heading, early = across(run, tmp_path / "a", lambda label, t, noise: noise + (label == "ear") * min(t, 0.6))
    assert re.search(
        r"noise: from .* to .* the area of the ear changes by \+\d+ % \(noise .*\d %\), before the answer turns\.$",
        early,
    )
    assert heading in BOUNDARY
    _, late = across(run, tmp_path / "b", lambda label, t, noise: noise + (label == "ear") * max(0.0, t - 0.8) * 3)
    assert late.endswith("mostly after the answer turns.") and "of the ear" in late
    heading, null = across(run, tmp_path / "c", lambda label, t, noise: noise)
    course = [
        picture for picture in sections(run)["Across the decision boundary"].figures if "evolution" in picture.name
    ]
    assert [picture.aside for picture in course] == [False, True]  # what the heading stands on is not folded away
    assert null.endswith("No part changes beyond its noise on the way to another answer.") and heading in BOUNDARY[:2]
    _, after = across(run, tmp_path / "d", lambda label, t, noise: noise / 4 + (label == "ear") * max(0.0, t - 1))
    assert after == null  # what changes only beyond the counterfactual


def test_the_heading_seldom_calls_a_change_where_all_measures_are_noise() -> None:
    """Of the 48 curves of 8 labels, 2 trajectories and 3 measures, over 40 runs."""
    rng, position, labels = np.random.default_rng(0), np.linspace(0, 2, 21), [f"part {k}" for k in range(8)]
    keys = pd.DataFrame(product(range(2), labels, TOLD), columns=["trajectory", "label", "measure"])
    measures = keys.merge(pd.DataFrame({"position": position}), how="cross").assign(normalised=0.0)
    rows = [{"trajectory": k, "origin": "a", "target": "b", "boundary": 0.5} for k in range(2)]
    tables = {"jumps": keys.assign(interpreted=True), "steps": measures[["trajectory", "position"]]}
    calls = 0
    for _ in range(40):
        tables["measures"] = measures.assign(change=rng.normal(size=len(measures)))
        table, facts = (lambda _, name, known=dict(tables): known[name]), (lambda *_: {"labels": labels})
        told, _ = _largest(cast("Source", SimpleNamespace(table=table, json=facts)), rows)
        calls += told.startswith("From ")
    assert calls <= 2
