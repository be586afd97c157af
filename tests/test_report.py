"""The pages hold what the tables say, nothing from elsewhere, and exactly the sections whose artifacts exist."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import findings
from helpers.findings import make_job

import lis.report
from lis.config import NetworkConfig, PartNetConfig, PartWorldConfig
from lis.report import comparison, section
from lis.report import page as report_page
from lis.report.comparison import write_comparison
from lis.report.html import ReportError, show
from lis.report.jobs import load_jobs, stage_folder, what_varied
from lis.report.metrics import collect_metrics
from lis.report.page import write_report
from lis.report.section import Picture, Section, Table, build_sections
from lis.report.source import Source, component_label, source
from lis.report.style import sheet, shows_data
from lis.report.tables import records, where
from lis.report.wording import number, share, times
from lis.store import Artifact, Draft, Recipe, Store

SECTIONS = {
    "Reconstructions": {"evaluation"},
    "Distances": {"evaluation"},
    "Principal components": {"evaluation"},
    "Classes": {"evaluation", "pairs/train", "pairs/test"},
    "True factors": {"evaluation"},
    "Similarity of R and W": {"similarity"},
    "The fit": {"link"},
    "Units": {"link"},
    "The classifier": {"pairs/test"},
}
"""Title of each section to the artifacts of which any is enough."""
FURNITURE = {"What was run", "Limits", "Reproducibility", "How to cite", "Runs"}


def page(folder: Path, artifacts: dict[str, Artifact], **settings: object) -> str:
    """The text of the page that is written for `artifacts`."""
    ctx = findings.make_ctx(folder, **settings)  # pyright: ignore[reportArgumentType]
    return write_report(ctx, artifacts, folder / "out").read_text("utf-8")


def titles(text: str) -> set[str]:
    """What the contents name; each of it is there."""
    listed = dict(re.findall(r'<li><a href="#([^"]*)">(.*?)</a></li>', text))
    assert (listed.pop("findings", None) is None) == ('id="findings"' not in text)
    assert listed.keys() <= set(re.findall(r'<section id="(.*?)"', text))
    return set(listed.values()) - FURNITURE


def words(text: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return findings.make_artifacts(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, artifacts: dict[str, Artifact]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("run")
    return folder / "out", page(folder, artifacts)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], str]:
    """Four jobs and the text of their comparison."""
    out = tmp_path_factory.mktemp("sweep")
    runs = [(scale, link, classes) for scale, link in ((1.0, "lr"), (0.8, "fc_l2")) for classes in ("dogs", "<fungi>")]
    jobs = [
        make_job(out / str(k), link, scale, labels={"classes": classes})
        for k, (scale, link, classes) in enumerate(runs)
    ]
    return jobs, write_comparison(jobs, out).read_text("utf-8")


def assert_self_contained(text: str) -> None:
    """Nothing is loaded, and links lead to the page itself or to what lies beside it."""
    assert set(re.findall(r"<script[^>]*>", text)) <= {'<script type="module">', '<script type="application/json">'}
    assert "<link" not in text and "@import" not in text and "url(" not in text
    for address in re.findall(r'src="([^"]*)"', text):
        assert address.startswith("data:image/"), address[:80]
    for address in re.findall(r'href="([^"]*)"', text):
        assert re.fullmatch(r"#.*|\d+/report\.html|reproducibility\.json|figures/[^/]+\.(png|svg|csv)", address), (
            address[:80]
        )
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)


def test_page_is_self_contained_and_small(whole: tuple[Path, str]) -> None:
    out, text = whole
    assert_self_contained(text)
    assert (out / "report.html").stat().st_size < 3e6
    assert text.startswith("<!DOCTYPE html>")


def test_every_section_appears(whole: tuple[Path, str]) -> None:
    assert titles(whole[1]) == set(SECTIONS)


@pytest.mark.parametrize("stage", ["evaluation", "similarity", "link", "pairs/train", "pairs/test"])
def test_sections_appear_exactly_when_their_artifact_exists(
    tmp_path: Path, artifacts: dict[str, Artifact], stage: str
) -> None:
    run = source(findings.make_ctx(tmp_path), {stage: artifacts[stage]})
    expected = {title for title, enough in SECTIONS.items() if stage in enough}
    assert {made.title for made in build_sections(run)} == expected


def test_page_without_artifacts(tmp_path: Path) -> None:
    text = page(tmp_path, {})
    assert titles(text) == set() and "<img" not in text and ">Appendix</h2>" in text
    assert_self_contained(text)


def test_a_figure_that_fails_loses_only_itself(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(source: Source) -> Section:
        raise ZeroDivisionError("nothing <b>to</b> divide by")

    def undrawable(source: Source) -> Section:
        figure, axes = sheet(3, 2)
        axes[0, 0].plot([0, 1], [0, 1])
        axes[0, 0].set_title("$\\nonsense$")
        return Section("Fine", "A lead.", [Picture("fine", figure, "A caption.")])

    monkeypatch.setattr(section, "MAKERS", {"run": {0: failing, **section.MAKERS["run"], 1000: undrawable}})
    with pytest.raises(ReportError, match=r"written without 2 of its sections(?s:.*)Failing .*: ZeroDivisionError"):
        page(tmp_path, {stage: artifacts[stage] for stage in ("similarity", "link")})
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    good = {"Similarity of R and W", "The fit", "Units"}
    assert titles(text) == {*good, "Failing (failed)", "Undrawable (failed)"}
    assert "ZeroDivisionError: nothing <b>to</b> divide by" in words(text) and "ValueError" in words(text)
    assert_self_contained(text)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    assert (tmp_path / "out" / "tables" / "link" / "units.parquet").is_file()
    assert "Traceback" in caplog.text and "in failing" in caplog.text


AROUND = {
    "title": "Title",
    "abstract": "Abstract",
    "headline": "Headline",
    "drawing": "Schematic",
    "write_animations": "Animations",
    "lead": "First picture",
    "findings": "Findings",
    "warnings": "Warnings",
    "what_was_run": "Line",
    "limits": "Limits",
    "card": "Reproducibility",
    "_write_facts": "Facts for a comparison",
    "_copy_tables": "Tables of link",
}
"""What `write_report` calls beside the sections, and what the page calls it where it fails."""


@pytest.mark.parametrize("names", [("drawing", "headline"), ("title",), tuple(AROUND)], ids=len)
def test_the_top_and_tail_of_a_page_may_fail_too(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    def failing(*_: Any) -> Any:
        raise ValueError("no <title>")

    for name in names:
        monkeypatch.setattr(report_page, name, failing)
    with pytest.raises(ReportError) as error:
        page(tmp_path, {"link": artifacts["link"]})
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    failed = {f"{AROUND[name]} (failed)" for name in names}
    assert titles(text) == {"The fit", "Units"} | failed and all(title in str(error.value) for title in failed)
    assert f"written without {len(failed)} of its" in str(error.value) and "no <title>" in words(text)
    assert ("<h1>Linking in Style</h1>" in text) == ("title" in names)
    assert (tmp_path / "out" / "report.json").is_file() == ("_write_facts" not in names)
    assert (tmp_path / "out" / "tables" / "link" / "units.parquet").is_file() == ("_copy_tables" not in names)


ORDER = [
    "unit", "direction", "images",
    "examples", "distance", "principal_components", "classes", "true_factors", "similarity",
    "omitted", "faithfulness", "all_units",
    "single_units", "tuned_units", "measures", "sparsity", "class_relevance", "transfer", "unit_map",
    "truth", "intervention", "planted", "bridge",
    "counterfactuals", "across_the_boundary", "gradcam", "directions", "sparse",
    "boundary_truth", "contrast", "gan_counterfactuals",
    "motion", "matching",
    "dissection_of_units",
    "class_importance", "texture_or_shape", "generator_units",
    "parts", "fit", "units", "forward_model", "classifier", "linear_probe",
]  # fmt: skip
"""The page from top to bottom."""
ANALYSIS = """
from lis.report.section import Section, metrics, section

@section(265, "similarity", "similarity")
def novelty(source):
    return Section("Novelty", f"{len(source.table('similarity', 'similarity'))} repetitions.")

@metrics("similarity")
def novel(artifact):
    return {"novelty/repetitions": len(artifact.table("similarity"))}
"""


def test_the_page_had_the_order_of_the_imports() -> None:
    assert [maker.__name__ for _, maker in sorted(section.MAKERS["run"].items())] == ORDER
    with pytest.raises(ValueError, match=r"order 350: sparsity of lis\.report.* and other of .*another number"):

        @section.section(350)
        def other(source: Source) -> Section | None: ...


def test_a_new_analysis_needed_a_list_of_imports_and_a_table_of_collectors(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file anywhere below `lis.report` adds its section in its place, and its numbers."""
    (tmp_path / "novelty_of_a_test.py").write_text(ANALYSIS)
    monkeypatch.setattr(lis.report, "__path__", [*lis.report.__path__, str(tmp_path)])
    monkeypatch.setattr(section, "MAKERS", {page: dict(made) for page, made in section.MAKERS.items()})
    monkeypatch.setattr(section, "COLLECTORS", {k: [*v] for k, v in section.COLLECTORS.items()})
    section.discover.cache_clear()
    try:
        known = {stage: artifacts[stage] for stage in ("similarity", "link")}
        assert collect_metrics(known)["novelty/repetitions"] == len(known["similarity"].table("similarity"))
        text = page(tmp_path, known)
    finally:
        sys.modules.pop("lis.report.novelty_of_a_test")
    assert text.index('id="similarity-of-r-and-w"') < text.index('id="novelty"') < text.index('id="the-fit"')


def test_a_collector_that_fails_loses_only_its_own_numbers(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(artifact: Artifact) -> dict[str, float]:
        raise KeyError("nowhere")

    artifacts = {stage: artifacts[stage] for stage in ("link", "pairs/test")}
    whole = collect_metrics(artifacts)
    others = {key: value for key, value in whole.items() if not key.startswith("link/")}
    monkeypatch.setitem(section.COLLECTORS, "link", [failing])
    assert collect_metrics(artifacts) == others and len(others) < len(whole)
    assert "'Numbers of link' failed" in caplog.text and "Traceback" in caplog.text
    with pytest.raises(ReportError, match=r"Numbers of link \(failed\): KeyError: 'nowhere'"):
        page(tmp_path, artifacts)
    assert {"The fit", "Units", "Numbers of link (failed)"} < titles(
        (tmp_path / "out" / "report.html").read_text("utf-8")
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"] == others


def test_a_table_that_was_copied_by_half_was_left(
    tmp_path: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison could not read it; that of another stage is there."""

    def failing(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:9])
        if "link" in target.parts:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_page.shutil, "copyfile", failing)
    with pytest.raises(ReportError, match=r"Tables of link \(failed\): OSError"):
        page(tmp_path, {stage: artifacts[stage] for stage in ("link", "pairs/test")})
    tables = tmp_path / "out" / "tables"
    assert list((tables / "link").iterdir()) == [] and list((tables / "pairs/test").iterdir())


def test_a_section_of_a_comparison_that_fails_loses_only_itself(
    sweep: tuple[list[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distributions(jobs: Any) -> Section:
        raise ValueError("no")

    monkeypatch.setitem(section.MAKERS["comparison"], 200, distributions)
    with pytest.raises(ReportError, match="Distributions"):
        write_comparison(sweep[0], tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert {"Numbers", "Reconstructions", "Distributions (failed)"} <= titles(text)


def test_the_top_and_tail_of_a_comparison_may_fail_too(
    sweep: tuple[list[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise ValueError("no")

    for name in ("_title", "_abstract", "_headline", "_numbers"):
        monkeypatch.setattr(comparison, name, failing)
    with pytest.raises(ReportError, match="written without 7 of its sections"):
        write_comparison(sweep[0], tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    failed = {f"{name} (failed)" for name in ("Title", "Abstract", "Headline", *(f"Run {k}" for k in range(4)))}
    assert failed < titles(text) and {"Numbers", "Distributions"} < titles(text)
    assert "<h1>Linking in Style</h1>" in text and "<td>0</td>" in text


def test_what_has_nothing_to_show_is_left_out(tmp_path: Path) -> None:
    empty, full = sheet(3, 2), sheet(3, 2, 1, 2)
    empty[1][0, 0].axhline(0)
    empty[1][0, 0].axvline(0.5)
    empty[1][0, 0].plot([0, 1], [np.nan, np.nan])
    empty[1][0, 0].text(0.5, 0.5, "no part")
    full[1][0, 1].imshow(np.ones((2, 2)))
    pictures = [Picture("empty", empty[0], "Nothing."), Picture("full", full[0], "Something.")]
    tables = [Table("Nothing.", ["a"], []), Table("Something.", ["a"], [["1"]])]
    shown = show(Section("Title", "A lead.", pictures, tables), tmp_path)
    assert [figure.caption for figure in shown.figures] == ["Something."] == [table.caption for table in shown.tables]
    assert {file.name for file in tmp_path.iterdir()} == {"full.png", "full.svg"}


@pytest.mark.parametrize("draw", ["bar", "scatter", "plot", "hist", "fill_between"])
def test_a_figure_with_a_mark_shows_something(draw: str) -> None:
    figure, axes = sheet(3, 2)
    getattr(axes[0, 0], draw)(*[[0.0, 1.0], [0.5, 1.0]][: 1 if draw == "hist" else 2])
    assert shows_data(figure)


def test_without_examples_there_are_no_pictures_of_them(tmp_path: Path, artifacts: dict[str, Artifact]) -> None:
    old = artifacts["evaluation"]

    def build(draft: Draft) -> None:
        for name in ("samples", "summary", "kept"):
            draft.table(name, old.table(name))
        draft.tensors("examples", {name: values[:0] for name, values in old.tensors("examples").items()})

    made = Store(tmp_path).make(Recipe("evaluation", 1, {"examples": 0}), build)
    assert "Reconstructions" not in titles(page(tmp_path, {"evaluation": made}))


def test_numbers_equal_the_tables(whole: tuple[Path, str], artifacts: dict[str, Artifact]) -> None:
    text = words(whole[1])
    for row in records(artifacts["evaluation"].table("summary")):
        for name in ("cycle", "random", "within_class"):
            assert f"{number(row[name])} [{number(row[f'{name}_low'])}, {number(row[f'{name}_high'])}]" in text
        assert times(row["ratio_random"]) in text
    kept = artifacts["evaluation"].table("kept")["kept"].tolist()
    assert share(kept[-1]) in text
    assert number(float(np.mean(artifacts["similarity"].table("similarity")["ari_w"])), 2) in text
    assert number(float(np.nanmean(artifacts["evaluation"].table("factors")["r2_within"])), 2) in text
    assert "35 live, 2 near-dead and 3 dead" in text


def test_what_was_left_out_is_said(whole: tuple[Path, str]) -> None:
    text = words(whole[1])
    assert "LPIPS" in text and "its weights <alex> are missing" in text
    assert "Part world is a cartoon" in text


def test_a_trained_link_shows_its_curve(tmp_path: Path) -> None:
    found = findings.make_artifacts(tmp_path / "store", link="fc_l2")
    text = words(page(tmp_path, {"link": found["link"]}, link="fc_l2"))
    assert (tmp_path / "out/figures/training-curve.png").exists()
    assert not (tmp_path / "out/figures/ridge-path.png").exists()
    assert "FC-L2" in text and "The link is not linear" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ("<b>bold</b>", "$dollar$", 'quo"te')
    found = findings.make_artifacts(tmp_path / "store", names)
    text = page(tmp_path, {stage: found[stage] for stage in ("pairs/test", "evaluation")}, names=names)
    assert "<b>" not in text and "&lt;b&gt;bold&lt;/b&gt;" in text
    assert '$dollar$, quo"te' in words(text)
    assert_self_contained(text)


def test_files_beside_the_page(whole: tuple[Path, str], artifacts: dict[str, Artifact]) -> None:
    out = whole[0]
    known = json.loads((out / "report.json").read_text())
    assert known["metrics"] == collect_metrics(artifacts)
    assert known["labels"]["link"] == "lr" and known["settings"]["pairs.train"] == 40
    assert sorted(known["figures"]) == sorted(file.name for file in (out / "figures").glob("*.png"))
    assert (out / "tables/evaluation/samples.parquet").exists()
    assert (out / "tables/pairs/train/acceptance.parquet").exists()


def test_metrics_are_flat_and_finite(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    found = collect_metrics(artifacts)
    first = records(artifacts["evaluation"].table("summary"))[0]
    assert found["mse_w/ratio_random"] == first["ratio_random"]
    assert found["r2"] == pytest.approx(np.mean([0.9, 0.8, 0.3])) and found["class_kept"] == 0.875
    assert found["acceptance/train/pug"] == 40 / 51
    assert found["link/dead"] == 3
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
    assert collect_metrics({}) == {}

    def build(draft: Draft) -> None:
        draft.table("factors", findings.factors().assign(r2=float("nan")))

    without = Store(tmp_path).make(Recipe("evaluation", 1, {}), build)
    assert "r2" not in collect_metrics({"evaluation": without})


def test_comparison_shows_every_job(sweep: tuple[list[Path], str]) -> None:
    jobs, text = sweep
    assert_self_contained(text)
    assert titles(text) == {"Numbers", "Distributions", "Gain over LR", "Reconstructions"}
    seen = words(text)
    assert "2 links × 2 class sets" in seen and "&lt;fungi&gt;" in text and "<fungi>" not in text
    for job in jobs:
        assert f'href="{job.name}/report.html"' in text
        assert f"{ratio(job):.3f}×" in seen
    figures = {file.name for file in (jobs[0].parent / "figures").glob("*.png")}
    assert figures == {"comparison-1.png", "gains-1.png", "examples-1.png"}
    assert 'id="table-runs-1"' in text and "tables of every stage" not in text


def test_the_figures_of_a_comparison_have_numbers_and_descriptions(sweep: tuple[list[Path], str]) -> None:
    """Each says in words what it shows, beside what its caption says of how it is read."""
    jobs, text = sweep
    made = [made for _, make in section.makers(load_jobs(jobs)[0], "comparison") if (made := make()) is not None]
    pictures = [picture for one in made for picture in one.figures]
    assert len(pictures) == 3 and all(picture.alt and picture.alt != picture.caption for picture in pictures)
    assert all(one.finding and not one.finding.endswith(".") and one.finding in words(text) for one in made)
    for picture in pictures:
        table = pd.read_csv(jobs[0].parent / "figures" / f"{picture.name}.csv")
        assert picture.data is not None and len(table) == len(picture.data) > 0
    stated = pd.read_csv(jobs[0].parent / "figures/comparison-1.csv").set_index(["column", "link", "metric", "pairing"])
    for job in load_jobs(jobs)[0]:
        assert job.samples is not None
        values = where(job.samples, metric="mse_w", pairing="cycle")["value"]
        assert stated.loc[(job.inner, job.link, "mse_w", "cycle"), "mean"] == pytest.approx(sum(values) / len(values))


def ratio(job: Path) -> float:
    return json.loads((job / "report.json").read_text())["metrics"]["mse_w/ratio_random"]


def test_comparison_marks_the_best_link(sweep: tuple[list[Path], str]) -> None:
    jobs, text = sweep
    best = re.findall(r'<td class="best">([\d.]+)×</td>', text)
    assert best[:2] == [f"{ratio(job):.3f}" for job in jobs[2:]]


def test_large_is_good_for_the_class_that_is_kept(tmp_path: Path) -> None:
    kept = {"lr": 0.95, "fc_l1": 0.9}
    jobs = [make_job(tmp_path / link, link, metrics={"class_kept": value}) for link, value in kept.items()]
    text = write_comparison(jobs, tmp_path).read_text("utf-8")
    assert '<td class="best">95.0 %</td>' in text and "<td>90.0 %</td>" in text


def test_only_links_make_one_table(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path / link, link) for link in ("lr", "ridge")]
    text = write_comparison(jobs, tmp_path).read_text("utf-8")
    assert text.count("<table>") == 3, "numbers, gains and runs"
    assert re.search(r"<tr><td></td><th scope=\"col\">LR</th><th scope=\"col\">Ridge</th></tr>", text)
    assert titles(text) == {"Numbers", "Distributions", "Gain over LR", "Reconstructions"}


def test_classifiers_are_described(tmp_path: Path) -> None:
    """The accuracy is that of the head in use; the rate is that of all draws of all classes."""
    rates = {"acceptance/test/pug": 0.5, "acceptance/test/chihuahua": 1.0, "acceptance/train/pug": 0.1}
    metrics = {
        "Net": rates | {"classifier/accuracy": 0.91, "link/samples": 600.0, "link/dead": 3.0},
        "Bare": {"mse_w/ratio_random": 0.2},
    }
    metrics["Probed"] = {"classifier/accuracy": 0.8, "probe/accuracy": 0.85}
    jobs = [make_job(tmp_path / name, metrics=found, labels={"classifier": name}) for name, found in metrics.items()]
    text = words(write_comparison(jobs, tmp_path).read_text("utf-8"))
    # 40 accepted of 80 and of 40 draws.
    assert "Net 40 3 15 91 % 66.7 %" in text
    assert "Bare 40 – – – –" in text and "Probed 40 – – 85 % –" in text


def test_comparison_names_jobs_without_result(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    text = write_comparison([make_job(tmp_path / "0"), broken], tmp_path).read_text("utf-8")
    assert "broken has no result" in words(text)
    with pytest.raises(ValueError, match=r"no results in 1 folders: expected report\.json"):
        write_comparison([broken], tmp_path)


def test_comparison_reads_what_a_report_writes(whole: tuple[Path, str], artifacts: dict[str, Artifact]) -> None:
    jobs, missing = load_jobs([whole[0]])
    assert missing == [] and jobs[0].link == "lr" and jobs[0].values == {}
    assert jobs[0].metrics == collect_metrics(artifacts)
    assert jobs[0].samples is not None and jobs[0].samples.equals(artifacts["evaluation"].table("samples"))
    assert jobs[0].examples is not None and jobs[0].examples["image"].shape == (6, 16, 16, 3)


def test_jobs_know_what_varied(sweep: tuple[list[Path], str]) -> None:
    jobs, _ = load_jobs(sweep[0])
    expected = [(link, classes, "") for link in ("lr", "fc_l2") for classes in ("dogs", "<fungi>")]
    assert [(job.link, job.inner, job.outer) for job in jobs] == expected
    assert jobs[0].units == 40 and tuple(jobs[0].class_names) == findings.NAMES


def test_a_run_of_an_older_version_is_read_in_new_names(tmp_path: Path) -> None:
    """Beside a new one, everything that has another name now seemed to vary."""
    old: dict[str, Any] = {"strips.units": 3, "tuning.null_directions": 4, "counterfactual.shown": 2}
    new: dict[str, Any] = {"traversal.units": 3, "tuning.control_directions": 4, "counterfactuals.trajectories": 2}
    old |= {"analysis.stages": ["link", "strips"], "segmenter._target_": "lis.segmentation.fewshot.FewShotFit"}
    new |= {"analysis.stages": ["link", "traversal"], "segmenter._target_": "lis.segmentation.segmenter.FewShotFit"}
    before = make_job(tmp_path / "0", "lr", metrics={"units/realised": 0.5, "units/others": 1.0}, **old)
    now = make_job(tmp_path / "1", "fc_l2", **new)
    (before / "tables" / "strips").mkdir()
    jobs, _ = load_jobs([before, now])
    assert [job.values for job in jobs] == [{"link": "LR"}, {"link": "FC-L2"}]
    assert jobs[0].settings == jobs[1].settings
    assert jobs[0].metrics["unit_statistics/reencoded_share"] == 0.5 and jobs[0].metrics["units/others"] == 1.0
    assert stage_folder(before, "traversal") == before / "tables" / "strips"
    assert stage_folder(now, "traversal") == now / "tables" / "traversal" and jobs[0].units == 40


def test_two_settings_of_a_link_keep_the_name_that_people_know(tmp_path: Path) -> None:
    """They were written `fc_l2, pc_target=…`."""
    settings: list[dict[str, Any]] = [{"link.pc_target": target} for target in ("projection", "prediction")]
    jobs = [make_job(tmp_path / str(k), "fc_l2", **setting) for k, setting in enumerate(settings)]
    text = words(write_comparison(jobs, tmp_path).read_text("utf-8"))
    assert "FC-L2, pc_target=projection" in text and "FC-L2, pc_target=prediction" in text and "fc_l2" not in text


def test_classifiers_are_columns_whatever_else_varies(tmp_path: Path) -> None:
    runs = [(classifier, world) for classifier in ("A", "B") for world in ("World", "World (hard)")]
    jobs = [
        make_job(tmp_path / str(k), labels={"classifier": classifier, "gan": world})
        for k, (classifier, world) in enumerate(runs)
    ]
    loaded, _ = load_jobs(jobs)
    assert [(job.inner, job.outer) for job in loaded] == runs
    text = words(write_comparison(jobs, tmp_path).read_text("utf-8"))
    assert "LR × 2 classifiers × 2 generators" in text
    # One figure per world, and the rows of a world beside each other.
    assert (tmp_path / "figures/comparison-2.png").exists() and not (tmp_path / "figures/comparison-3.png").exists()
    rows = [text.index(row) for row in ("World, A 0.", "World, B 0.", "World (hard), A 0.", "World (hard), B 0.")]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    ("node", "label"),
    [
        (PartNetConfig(), "PartNet"),
        (PartNetConfig(task="attributes", probe=True), "PartNet (with probe, attributes)"),
        (NetworkConfig(model="resnet50"), "ResNet-50"),
        (NetworkConfig(model="alexnet", weights="random"), "AlexNet (random weights)"),
        (NetworkConfig(model="densenet201", weights="/a/b/birds.pth"), "DenseNet-201 (weights birds.pth)"),
        (NetworkConfig(model="alexnet", weights="b.pth", ema=False), "AlexNet (weights b.pth, not averaged)"),
        (NetworkConfig(model="alexnet", weights="b.pth", domain="any"), "AlexNet (domain=any, weights b.pth)"),
        (NetworkConfig(model="resnet50", num_classes=2, class_names=["a", "b"]), "ResNet-50"),
        (NetworkConfig(model="mobilenet_v3_large"), "mobilenet_v3_large"),
        (NetworkConfig(library="timm", model="resnet50.a1_in1k", probe=True), "resnet50.a1_in1k (with probe)"),
        (NetworkConfig(library="ip_irm", model="resnet50", probe=True), "IP-IRM"),
        (NetworkConfig(library="partnet", model="partnet", attribute="dogs/size"), "PartNet (attribute dogs/size)"),
        (PartWorldConfig(hard=True, truncation=0.5), "PartWorld (truncation=0.5, hard)"),
        (PartWorldConfig(conditional=False), "PartWorld (conditional=False)"),
    ],
)
def test_components_are_named_as_people_write_them(node: object, label: str) -> None:
    assert component_label(node) == label


def test_same_link_with_other_settings_is_another_link() -> None:
    labels = [{"link": "fc_l1"}, {"link": "fc_l1"}, {"link": "lr"}]
    settings = [{"link.hidden": 8, "device": "cpu"}, {"link.hidden": 16, "device": "cuda"}, {"device": "cpu"}]
    assert what_varied(labels, settings) == [{"link": "fc_l1, hidden=8"}, {"link": "fc_l1, hidden=16"}, {"link": "lr"}]


def test_two_settings_make_one_figure_per_outer_value(tmp_path: Path) -> None:
    runs = [(seed, classes) for seed in (0, 1) for classes in ("dogs", "birds")]
    jobs = [
        make_job(tmp_path / str(k), labels={"classes": classes}, seed=seed) for k, (seed, classes) in enumerate(runs)
    ]
    text = words(write_comparison(jobs, tmp_path).read_text("utf-8"))
    assert (
        "LR × 2 seeds × 2 class sets" in text and "seed=1, birds" in text and "Seed=0: distance after the cycle" in text
    )
    assert (tmp_path / "figures/comparison-2.png").exists()


def test_tables_are_crossed_listed_and_told_by_pair() -> None:
    table = section.crossed(
        "C.", ["a_b", "c"], [1, 2], lambda row, k: f"{row}{k}", corner="x", bold=lambda row, k: (row, k) == ("c", 2)
    )
    assert (table.columns, table.rows) == (["x", "1", "2"], [["a b", "a_b1", "a_b2"], ["c", "c1", "c2"]])
    assert table.best == {(1, 2)}
    columns = {"": lambda row: f"{row['n']}", "twice": lambda row: f"{2 * row['n']}"}
    assert section.listed("C.", [{"n": 1}, {"n": 2}], columns).rows == [["1", "2"], ["2", "4"]]
    moved = pd.DataFrame({"origin": ["a", "a"], "target": ["b", "b"], "unit": [3, 5]})
    told = section.by_pair("C.", "units", moved, [("a", "b"), ("b", "a")], lambda row: str(row["unit"]))
    assert told.rows == [["a → b", "3, 5"], ["b → a", ""]] and told.columns == ["", "units"]
