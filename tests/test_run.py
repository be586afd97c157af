"""The real command line: a run, a second run, a sweep, and everything that a person can get wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.commandline import ROOT, SMALL, lis, made, metrics
from helpers.stored import manifests
from helpers.wandb_records import artifacts, history
from hydra import compose, initialize_config_dir

from lis import build
from lis.config import conf_folder
from lis.report import section
from lis.report.metrics import collect_metrics
from lis.stage import REGISTRY
from lis.stages import register
from lis.store import Artifact
from lis.tracking import CsvTracker
from lis.validation import typed

pytestmark = pytest.mark.slow
PAIRS = ("pairs/train", "pairs/test")
DASHBOARD = ["logger=wandb"] if find_spec("wandb") else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which one run has finished."""
    cwd = tmp_path_factory.mktemp("cwd")
    code, output = lis(*SMALL, *DASHBOARD, "hydra.run.dir=outputs/first", cwd=cwd)
    assert code == 0, output
    assert "report:" in output and "class_kept" in output
    return cwd


def test_a_run_leaves_its_report_numbers_tables_config_and_log(folder: Path) -> None:
    out = folder / "outputs" / "first"
    assert {"report.html", "metrics.json", "metrics.csv", "summary.json", "tables", ".hydra", "lis.log"} <= {
        path.name for path in out.iterdir()
    }
    numbers = metrics(out)
    assert {"mse_w/cycle", "mse_w/ratio_random", "class_kept", "r2", "ari_r", "rsa_similarity"} <= set(numbers)
    assert 0 < numbers["pixel_l2/ratio_random"] < 1
    assert any(name.startswith("link ") for name in made(out))
    assert (out / "tables" / "evaluation" / "summary.csv").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["choices"]["link"] == "lr" and summary["artifacts"].keys() == {
        "pairs/train",
        "pairs/test",
        "link",
        "evaluation",
        "similarity",
    }


@pytest.mark.skipif(not DASHBOARD, reason="needs wandb")
def test_the_dashboard_has_every_stage_and_the_page(folder: Path) -> None:
    """Read back from the folder that an offline run leaves: metrics with steps, tables, pictures and the report."""
    out = folder / "outputs" / "first"
    (run,) = (out / "wandb").glob("offline-run-*")
    rows, stages = history(run), json.loads((out / "summary.json").read_text())["stages"]
    assert [row["_step"] for row in rows] == list(range(len(stages) + 1))
    for row, (name, ended) in zip(rows, stages.items(), strict=False):
        assert row[f"stages/{name}/cached"] == 0 == ended["cached"] and f"stages/{name}/seconds" in row
    assert rows[0]["stages/pairs/train/samples"] == 300 and "link/samples" not in rows[1]
    assert metrics(out).items() <= rows[-1].items()
    shown = {kind: {key for row in rows for key in row if row[key] == kind} for kind in ("table-file", "image-file")}
    assert len(shown["table-file"]) >= 3 and len(shown["image-file"]) >= 5
    pages = artifacts(run)["report"]
    assert pages["report.html"].read_bytes() == (out / "report.html").read_bytes()
    figures = {f"figures/{name}" for name in json.loads((out / "report.json").read_text())["figures"]}
    assert figures | {"reproducibility.json", "metrics.json"} <= pages.keys()


def test_the_card_says_what_repeats_the_run_and_not_where_it_was(folder: Path) -> None:
    """The same of a run that has computed nothing, and is read from the store."""
    out = folder / "outputs" / "first"
    facts = json.loads((out / "reproducibility.json").read_text())
    assert facts["command"] == f"python -m lis.run {' '.join(SMALL)}" and facts["device"] == "cpu"
    keys = json.loads((out / "summary.json").read_text())["artifacts"]
    assert {stage["stage"]: stage["key"] for stage in facts["stages"]} == keys
    drawn = {name: pd.read_parquet(out / "tables" / name / "acceptance.parquet")["drawn"].sum() for name in PAIRS}
    images = {stage["stage"]: stage["images"] for stage in facts["stages"]}
    assert all(images[name] >= drawn[name] for name in PAIRS) and images["link"] == 0 < images["evaluation"]
    for file in ("report.html", "reproducibility.json"):
        text = (out / file).read_text()
        assert str(folder) not in text and str(Path.home()) not in text and "command" in text


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    page = (folder / "outputs" / "first" / "report.html").read_text()
    assert all(mark not in page for mark in ('src="http', "src='http", '<link rel="stylesheet"', "@import"))


def test_a_link_that_explains_nothing_is_a_finding_at_the_top_and_no_error(folder: Path) -> None:
    out = folder / "outputs" / "first"
    assert 1 - 2 * metrics(out)["mse_w/ratio_random"] <= 0.1  # R² of least squares: 256 units, 300 pairs
    page = (out / "report.html").read_text()
    assert "This link explains nothing" in page[: page.index("<h2>")]


def test_a_second_run_makes_nothing_and_finds_the_same(folder: Path) -> None:
    before = manifests(folder / "outputs" / "store")
    code, output = lis(*SMALL, "hydra.run.dir=outputs/second", cwd=folder)
    assert code == 0, output
    assert not made(folder / "outputs" / "second")
    assert manifests(folder / "outputs" / "store") == before
    assert metrics(folder / "outputs" / "second") == metrics(folder / "outputs" / "first")
    cards = [json.loads((folder / "outputs" / x / "reproducibility.json").read_text()) for x in ("first", "second")]
    for card in cards:
        card["settings"] = {key: value for key, value in card["settings"].items() if not key.startswith("logger.")}
    assert cards[0] == cards[1]
    ended = json.loads((folder / "outputs" / "second" / "summary.json").read_text())["stages"]
    assert ended and all(stage["cached"] for stage in ended.values())


def test_a_second_analysis_in_a_folder_leaves_nothing_of_the_first_and_all_that_others_put_there(folder: Path) -> None:
    out = folder / "outputs" / "both"
    for analysis in ("analysis=link", "analysis=similarity"):
        code, output = lis(*SMALL, analysis, f"hydra.run.dir={out}", cwd=folder)
        assert code == 0, output
        (out / "figures" / "mine.png").touch()
    shown = json.loads((out / "report.json").read_text())["figures"]
    files = {file.name for file in (out / "figures").iterdir()}
    assert {name for name in files if name.endswith(".png")} == {*shown, "mine.png"}
    assert {Path(name).stem for name in files} == {*(Path(name).stem for name in shown), "mine"}
    stages = {"similarity", "pairs/test"}  # those with tables
    assert {str(file.parent.relative_to(out / "tables")) for file in (out / "tables").rglob("*.*")} == stages
    assert "evaluation" not in json.loads((out / "summary.json").read_text())["artifacts"]
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.*") if file.is_file()}
    before = {file: time for file, time in before.items() if file.suffix not in (".log", ".yaml", ".jsonl")}
    code, output = lis(*SMALL, "device=abacus", f"hydra.run.dir={out}", cwd=folder)
    assert code == 1 and (out / "failure.json").is_file()
    assert before == {file: file.stat().st_mtime_ns for file in before}  # what is refused costs nothing
    code, output = lis(*SMALL, "analysis=similarity", f"hydra.run.dir={out}", cwd=folder)
    assert code == 0 and not (out / "failure.json").exists(), output


def test_a_damaged_artifact_is_named_and_made_again(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "outputs" / "store", tmp_path / "moved")
    damaged = next((tmp_path / "moved" / "link").glob("*/link.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-4])
    code, output = lis(*SMALL, f"store={tmp_path / 'moved'}", "hydra.run.dir=outputs/mended", cwd=folder)
    assert code == 0, output
    assert str(damaged) in output and "set aside" in output
    # The rest of the moved store is valid.
    assert [name.split()[0] for name in made(folder / "outputs" / "mended")] == ["link", "report"]
    assert metrics(folder / "outputs" / "mended") == metrics(folder / "outputs" / "first")


def test_figures_that_fail_lose_no_run(folder: Path) -> None:
    out = folder / "outputs" / "undrawn"
    out.mkdir(parents=True)
    (out / "figures").touch()  # no figure can be written below a file
    code, output = lis(*SMALL, "analysis=similarity", f"hydra.run.dir={out}", cwd=folder)
    assert code == 1 and f"{out / 'figures'}" in output and "move away what is in its way" in output
    assert metrics(out)["ari_r"] > 0 and json.loads((out / "summary.json").read_text())["artifacts"].keys()
    assert (out / "tables" / "similarity" / "similarity.parquet").is_file() and (out / "metrics.csv").is_file()
    assert json.loads((out / "failure.json").read_text())["type"] == "FileExistsError"
    page = (out / "report.html").read_text()  # which holds the figures itself
    assert "(failed)" not in page and "data:image/png" in page and "Traceback" in (out / "lis.log").read_text()


def failing(*_: object) -> dict[str, float]:
    raise KeyError("nowhere")


def break_numbers() -> None:
    section.COLLECTORS["similarity"] = [failing]


def break_tracker() -> None:
    CsvTracker.metrics = failing  # pyright: ignore[reportAttributeAccessIssue]


def test_numbers_that_fail_lose_neither_page_nor_other_numbers(folder: Path) -> None:
    out = folder / "outputs" / "unmeasured"
    code, output = lis(*SMALL, "analysis=similarity", f"hydra.run.dir={out}", cwd=folder, before=break_numbers)
    assert code == 1 and "Numbers of similarity (failed): KeyError: 'nowhere'" in output
    assert "ari_r" not in metrics(out) and any(name.startswith("acceptance/test/") for name in metrics(out))
    assert "Numbers of similarity (failed)" in (out / "report.html").read_text()
    assert (out / "tables" / "similarity" / "similarity.parquet").is_file() and (out / "summary.json").is_file()
    assert (out / "lis.log").read_text().count("Traceback") == 1


def test_a_tracker_that_fails_loses_no_summary(folder: Path) -> None:
    out = folder / "outputs" / "untracked"
    code, output = lis(*SMALL, "analysis=similarity", f"hydra.run.dir={out}", cwd=folder, before=break_tracker)
    assert code == 1 and "nowhere" in output
    assert json.loads((out / "summary.json").read_text())["artifacts"].keys() and (out / "report.html").is_file()


def test_a_sweep_compares_what_has_numbers(folder: Path) -> None:
    sweep = folder / "outputs" / "undrawn-sweep"
    (sweep / "0").mkdir(parents=True)
    (sweep / "0" / "figures").touch()
    code, output = lis("-m", *SMALL, "evaluation.examples=1,2", f"hydra.sweep.dir={sweep}", cwd=folder)
    assert code == 1 and "1 of 2 jobs failed" in output and "comparison of 2 jobs" in output
    assert "has no result" not in (sweep / "report.html").read_text()


def test_batch_and_shard_size_change_nothing(folder: Path) -> None:
    code, output = lis(
        *SMALL, "batch_size=17", "shard_size=40", "store=other", "hydra.run.dir=outputs/sharded", cwd=folder
    )
    assert code == 0, output
    found, expected = (metrics(folder / "outputs" / run) for run in ("sharded", "first"))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


CUTS = {
    "one": ("batch_size=1", "tuning.batch_size=1", "tuning.unit_block=1", "tuning.seed_block=1", "threads=1"),
    "seven": ("batch_size=7", "tuning.batch_size=7", "tuning.unit_block=3", "tuning.seed_block=1", "threads=2"),
}
"""Ways to cut the same work."""


def test_units_pictures_and_motion_do_not_follow_batches_blocks_and_threads(tmp_path: Path) -> None:
    """Every number of every stage, to 1e-5; what goes into an argmax or a grey level even has the same bits.

    With a ridge, whose small steps leave the figures whole: what is lost has no motion that could be compared.
    """
    few = ("link=ridge", "classes.names=[pug,border_collie]")
    names = ("segmenter", "tuning", "unit_statistics", "pictures", "motion")
    first, *others = [stages(tmp_path / name, *SMALL, *few, *sizes, names=names) for name, sizes in CUTS.items()]
    expected = collect_metrics(first)
    assert expected["motion/aligned"] == 1
    for other in others:
        assert collect_metrics(other) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        for name, artifact in first.items():
            assert_equal_numbers(artifact, other[name], exact=name == "segmenter")


def stages(store: Path, *overrides: str, names: tuple[str, ...]) -> dict[str, Artifact]:
    """Artifacts of stages in this process, without a report: most of a small run's time."""
    before = torch.get_num_threads()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        register()
        ctx = build.context(typed(compose("config", [*overrides, f"store={store}"])))
    try:
        return {name: REGISTRY[name](ctx) for name in names}
    finally:
        torch.set_num_threads(before)


def assert_equal_numbers(one: Artifact, other: Artifact, exact: bool) -> None:
    """All tables and tensors of both: to 1e-5, or bit by bit."""
    relative, absolute = (0.0, 0.0) if exact else (1e-5, 1e-9)
    for file in map(Path, one.manifest["files"]):
        if file.suffix == ".parquet":
            tables = one.table(file.stem), other.table(file.stem)
            pd.testing.assert_frame_equal(*tables, check_exact=exact, rtol=relative, atol=absolute)
        elif file.suffix == ".safetensors":
            tensors = other.tensors(file.stem), one.tensors(file.stem)
            torch.testing.assert_close(*tensors, rtol=relative, atol=absolute, equal_nan=True)


def test_a_refused_sweep_leaves_the_page_of_the_one_before_and_counts_none_of_its_results(folder: Path) -> None:
    sweep = (*SMALL, "analysis=similarity", "hydra.sweep.dir=outputs/refused")
    code, output = lis("-m", *sweep, "seed=0,1", cwd=folder)
    assert code == 0, output
    page = folder / "outputs" / "refused" / "report.html"
    text = page.read_text()
    code, output = lis("-m", *sweep, "device=abacus,slide_rule", cwd=folder)
    assert code == 1 and "2 of 2 jobs failed" in output and "comparison of" not in output, output
    assert page.read_text() == text
    code, output = lis("-m", *sweep, "device=abacus,cpu", cwd=folder)
    assert code == 1 and "1 of 2 jobs failed" in output and "comparison of 1 jobs" in output, output
    assert page.read_text() != text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1", ["sede"]),
        ("link=nonsense", ["link=nonsense", "fc_l1", "ridge"]),
        ("pairs.train=-5", ["pairs.train=-5", "at least 2"]),
        ("classes.names=[pug,unicorn]", ["unicorn", "border_collie"]),
        ("classes.names=[]", ["classes must come from one set", "got none"]),
        ("store=file/store", ["file/store", "cannot be written"]),
        ("hydra.run.dir=file/run", ["file/run", "cannot be written"]),
    ],
)
def test_bad_input_fails_at_once_and_says_why(override: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = lis(*SMALL, override, cwd=tmp_path)
    assert code == 1, output
    assert all(word in output for word in words), output
    assert "Traceback" not in output
    assert not list((tmp_path / "outputs").glob("store/*/*"))


def test_the_whole_traceback_of_bad_input_is_in_the_log(tmp_path: Path) -> None:
    lis(*SMALL, "device=abacus", "hydra.run.dir=run", cwd=tmp_path)
    assert "Traceback" in (tmp_path / "run" / "lis.log").read_text()
    assert json.loads((tmp_path / "run" / "failure.json").read_text())["type"] == "ValueError"


def test_a_full_disk_ends_a_run_with_one_line(tmp_path: Path) -> None:
    """Files of at most 16 KiB stand for the disk; the tensors of the pairs are larger."""
    command = ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", sys.executable, "-m", "lis.run", *SMALL]
    ended = subprocess.run(
        [*command, "hydra.run.dir=run"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    output = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 1 and "no space left to write to" in output, output
    assert "Traceback" not in output and "the same command goes on" in output.splitlines()[-1]
    assert "Traceback" in (tmp_path / "run" / "lis.log").read_text()


def test_the_configuration_is_found_from_any_folder(tmp_path: Path) -> None:
    code, output = lis("--cfg", "job", cwd=tmp_path)
    assert code == 0, output
    assert "_target_: lis.generators.partworld.PartWorld" in output


def test_a_wheel_holds_the_configuration_and_the_weights(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel")
    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"lis/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")} <= names
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "lis").rglob("*.safetensors")} <= names
