"""The pages hold what the tables say, nothing from elsewhere, and exactly the sections whose artifacts exist."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import findings
import numpy as np
import pytest
from safetensors.torch import save_file

from lis.report.comparison import write_comparison
from lis.report.frames import records
from lis.report.jobs import load_jobs, what_varied
from lis.report.labels import number, share, times
from lis.report.metrics import collect_metrics
from lis.report.page import write_report
from lis.store import Artifact, Draft, Recipe, Store

SECTIONS = {
    "Reconstructions": "evaluation",
    "Distances": "evaluation",
    "Principal components": "evaluation",
    "Classes": "evaluation",
    "True factors": "evaluation",
    "Similarity of R and W": "similarity",
    "The fit": "link",
    "Units": "link",
}
FURNITURE = {"Limits", "Settings", "How to cite", "Runs"}


def page(folder: Path, artifacts: dict[str, Artifact], **settings: object) -> str:
    """The text of the page that is written for `artifacts`."""
    ctx = findings.make_ctx(folder, **settings)  # pyright: ignore[reportArgumentType]
    return write_report(ctx, artifacts, folder / "out").read_text("utf-8")


def titles(text: str) -> set[str]:
    return set(re.findall(r"<h2>(.*?)</h2>", text)) - FURNITURE


def words(text: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return findings.make_artifacts(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, artifacts: dict[str, Artifact]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("run")
    return folder / "out", page(folder, artifacts)


def make_job(folder: Path, link: str, classes: str, scale: float = 1.0, **settings: object) -> Path:
    """As much of a run's folder as a comparison reads."""
    table = findings.samples(scale=scale, n=8)
    metrics = {f"{row['metric']}/ratio_random": row["ratio_random"] for row in records(findings.summary(table))}
    labels = {"gan": "World", "classifier": "Net", "classes": classes, "link": link}
    known = {"labels": labels, "settings": {"seed": 0} | settings, "metrics": metrics | {"class_kept": 0.9}}
    (folder / "tables/evaluation").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(known))
    (folder / "report.html").touch()
    table.to_parquet(folder / "tables/evaluation/samples.parquet")
    save_file(findings.examples(2), folder / "tables/evaluation/examples.safetensors")
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], str]:
    """Four jobs and the text of their comparison."""
    out = tmp_path_factory.mktemp("sweep")
    runs = [(scale, link, classes) for scale, link in ((1.0, "lr"), (0.8, "fc_l2")) for classes in ("dogs", "<fungi>")]
    jobs = [make_job(out / str(k), link, classes, scale) for k, (scale, link, classes) in enumerate(runs)]
    return jobs, write_comparison(jobs, out).read_text("utf-8")


def assert_self_contained(text: str) -> None:
    assert "<script" not in text and "<link" not in text and "@import" not in text and "url(" not in text
    for address in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert address.startswith(("data:image/", "#")) or re.fullmatch(r"\d+/report\.html", address), address[:80]
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)


def test_page_is_self_contained_and_small(whole: tuple[Path, str]) -> None:
    out, text = whole
    assert_self_contained(text)
    assert (out / "report.html").stat().st_size < 3e6
    assert text.startswith("<!DOCTYPE html>")


def test_every_section_appears(whole: tuple[Path, str]) -> None:
    assert titles(whole[1]) == set(SECTIONS)


@pytest.mark.parametrize("stage", ["evaluation", "similarity", "link", "pairs/train"])
def test_sections_appear_exactly_when_their_artifact_exists(
    tmp_path: Path, artifacts: dict[str, Artifact], stage: str
) -> None:
    expected = {title for title, needed in SECTIONS.items() if needed == stage} or {"Classes"}
    assert titles(page(tmp_path, {stage: artifacts[stage]})) == expected


def test_page_without_artifacts(tmp_path: Path) -> None:
    text = page(tmp_path, {})
    assert titles(text) == set() and "<img" not in text
    assert_self_contained(text)


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
    assert sorted(known["figures"]) == sorted(file.name for file in (out / "figures").iterdir())
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
    assert titles(text) == {"Numbers", "Distributions", "Reconstructions"}
    seen = words(text)
    assert "2 links × 2 class sets" in seen and "&lt;fungi&gt;" in text and "<fungi>" not in text
    for job in jobs:
        assert f'href="{job.name}/report.html"' in text
        assert f"{ratio(job):.3f}×" in seen
    figures = {file.name for file in (jobs[0].parent / "figures").iterdir()}
    assert figures == {"comparison-1.png", "examples-1.png", "examples-2.png"}


def ratio(job: Path) -> float:
    return json.loads((job / "report.json").read_text())["metrics"]["mse_w/ratio_random"]


def test_comparison_marks_the_best_link(sweep: tuple[list[Path], str]) -> None:
    jobs, text = sweep
    best = re.findall(r'<td class="best">([\d.]+)×</td>', text)
    assert best[:2] == [f"{ratio(job):.3f}" for job in jobs[2:]]


def test_comparison_names_jobs_without_result(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    text = write_comparison([make_job(tmp_path / "0", "lr", "dogs"), broken], tmp_path).read_text("utf-8")
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


def test_same_link_with_other_settings_is_another_link() -> None:
    labels = [{"link": "fc_l1"}, {"link": "fc_l1"}, {"link": "lr"}]
    settings = [{"link.hidden": 8, "device": "cpu"}, {"link.hidden": 16, "device": "cuda"}, {"device": "cpu"}]
    assert what_varied(labels, settings) == [{"link": "fc_l1, hidden=8"}, {"link": "fc_l1, hidden=16"}, {"link": "lr"}]


def test_two_settings_make_one_figure_per_outer_value(tmp_path: Path) -> None:
    runs = [(seed, classes) for seed in (0, 1) for classes in ("dogs", "birds")]
    jobs = [make_job(tmp_path / str(k), "lr", classes, seed=seed) for k, (seed, classes) in enumerate(runs)]
    text = words(write_comparison(jobs, tmp_path).read_text("utf-8"))
    assert "LR × 4 settings" in text and "seed=1, birds" in text and "Seed=0: distance after the cycle" in text
    assert (tmp_path / "figures/comparison-2.png").exists()
