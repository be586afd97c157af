"""Runs read back from their folders: tables, what the store holds, old names, sweeps, and folders of no run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.commandline import SMALL, lis
from helpers.findings import make_job
from PIL import Image

from lis.api.run_pages import Report
from lis.api.runs import Run, load, load_sweep
from lis.config.overrides import spelled

WHEN = Path("2026-01-02", "03-04-05")
KEY = "0123456789abcdef" * 2
FACTS = '{"settings": {}, "labels": {}, "metrics": %s, "figures": %s}'
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefg"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """A folder with one run of a second or two."""
    folder = tmp_path_factory.mktemp("project")
    out = f"hydra.run.dir={folder / 'outputs' / WHEN}"
    code, output = lis(*SMALL, "analysis=similarity", f"store={shared_store}", out, cwd=folder)
    assert code == 0, output
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    return load(project / "outputs" / WHEN)


def edit(file: Path, **values: object) -> None:
    """Other members of a JSON object."""
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))


def test_a_run_knows_what_it_is(run: Run, project: Path) -> None:
    assert run.title == "PartNet on images of PartWorld: dogs" and run.class_names[1] == "pug"
    assert run.stages == ("pairs/test", "similarity") and "similarity" in run and "link" not in run
    assert run.settings["pairs.train"] == 60 and run.metrics["ari_r"] > 0 and run.failure is None
    assert run.seconds is not None and run.seconds > 0 and set(run.versions) == {"lis", "torch", "numpy"}
    assert run.overrides[:2] == SMALL[:2] and list(run) == list(run.stages)
    assert f"{run}" == f"Run of {run.title}, in {project / 'outputs' / WHEN}: pairs/test, similarity"


def test_tables_are_those_of_the_folder_and_all_else_is_in_the_store(run: Run, shared_store: Path) -> None:
    stage = run["similarity"]
    assert "similarity" in stage.tables and stage.artifact.path.is_relative_to(shared_store)
    pd.testing.assert_frame_equal(stage.table("similarity"), stage.artifact.table("similarity"))
    assert run["pairs/test"].tensors("pairs")["r"].shape == (150, 256)
    assert f"{run['pairs/test']}" == "StageFiles of pairs/test: tables acceptance"


def test_misspelt_names_hear_of_the_nearest(run: Run) -> None:
    wrong: list[tuple[Any, str]] = [
        (lambda: run["similarty"], "similarity"),
        (lambda: run["similarity"].table("similarty"), "similarity"),
        (lambda: run.metrics["ari_rr"], "ari_r"),
        (lambda: run.settings["pairs.trian"], "pairs.train"),
        (lambda: run.figures["similarty"], "similarity"),
    ]
    for read, nearest in wrong:
        with pytest.raises(ValueError, match=rf"; did you mean {nearest}\? Expected one of"):
            read()
    with pytest.raises(ValueError, match=r"expected one of pairs; did you mean pairs\?"):
        run["pairs/test"].tensors("pair")
    with pytest.raises(ValueError, match="it has none"):
        run["pairs/test"].json("facts")


def test_a_run_is_opened_again_as_a_study(run: Run) -> None:
    s = run.study()
    assert torch.equal(s.pairs("test")["r"], run["pairs/test"].tensors("pairs")["r"])
    assert s.stage("similarity").key == run["similarity"].key


def test_a_study_reads_the_paths_of_the_run(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "outputs" / "a" / "b", images="/elsewhere/a=b")
    edit(folder / "summary.json", overrides=["size=smoke", "images=a=b", "store=here", "logger=wandb"])
    settings = load(folder).study().settings
    assert settings.images == "/elsewhere/a=b" and settings.store == str(tmp_path / "outputs" / "store")


def test_a_project_that_was_moved_finds_its_store_beside_the_outputs(
    run: Run, tmp_path: Path, shared_store: Path
) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(run.folder, outputs / WHEN)
    edit(outputs / WHEN / "report.json", settings=dict(run.settings) | {"store": "/no/such/store"})
    with pytest.raises(ValueError, match=r"looked for in /no/such/store; .* `python -m lis.run size=smoke .*store=…"):
        load(outputs / WHEN)["pairs/test"].tensors("pairs")
    assert len(load(outputs / WHEN, store=shared_store)["pairs/test"].tensors("pairs")["r"]) == 150
    shutil.copytree(run["pairs/test"].artifact.path, outputs / "store" / "pairs-test" / run["pairs/test"].artifact.key)
    moved = load(outputs / WHEN / "report.html")["pairs/test"]
    assert moved.artifact.path.is_relative_to(outputs) and len(moved.tensors("pairs")["r"]) == 150


def test_what_is_damaged_is_named(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    artifact = run["pairs/test"].artifact
    shutil.copytree(artifact.path, tmp_path / "store" / "pairs-test" / artifact.key)
    with (tmp_path / "store" / "pairs-test" / artifact.key / "pairs.safetensors").open("ab") as file:
        file.write(b"more")
    damaged = load(tmp_path / "run", store=tmp_path / "store")
    with pytest.raises(ValueError, match=r"pairs.safetensors has \d+ bytes, not .*make it anew: `python -m lis.run"):
        damaged["pairs/test"].tensors("pairs")
    (tmp_path / "run" / "tables" / "similarity" / "similarity.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(ValueError, match=r"similarity.parquet cannot be read .*make it anew"):
        damaged["similarity"].table("similarity")


def test_what_is_damaged_is_shown_as_such(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "tables" / "similarity" / "similarity.parquet").write_bytes(b"PAR1 no more PAR1")
    assert "cannot be read" in load(tmp_path / "run")["similarity"]._repr_html_()


def test_what_the_summary_knows_is_not_read_elsewhere(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "run")
    edit(folder / "summary.json", overrides=["seed=1"])
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(BOMB)
    assert load(folder).overrides == ("seed=1",)


def test_a_run_with_options_of_ones_own_is_opened_again(tmp_path: Path) -> None:
    options = tmp_path / "my options"
    (options / "classes").mkdir(parents=True)
    (options / "classes" / "mine.yaml").write_text("name: mine\nnames: [pug, chihuahua]\nlabels: []\n")
    folder = make_job(tmp_path / "outputs" / "a" / "b")
    edit(folder / "summary.json", overrides=["size=smoke", "classes=mine"])
    (folder / ".hydra").mkdir()
    sources = [{"path": "pkg", "provider": "hydra"}, {"path": f"{options}", "provider": "command-line"}]
    edit(folder / ".hydra" / "hydra.yaml", hydra={"runtime": {"config_sources": sources}})  # JSON is YAML
    (folder / "report.html").unlink(missing_ok=True)
    loaded = load(folder)
    assert loaded.config_dir == options and loaded.study().class_names == ("pug", "chihuahua")
    with pytest.raises(ValueError, match=rf'lis.run "--config-dir={options}" size=smoke classes=mine`$'):
        _ = loaded.report
    shutil.rmtree(options)
    with pytest.raises(ValueError, match=rf"with --config-dir={options}, which is not there any more: expected"):
        loaded.study()


def test_the_command_that_makes_a_run_again_can_be_read(tmp_path: Path) -> None:
    """Paths are noted in the quotes that the command line puts round them; shell quotes of quotes were unreadable."""
    folder = make_job(tmp_path / "run")
    typed = ["store='/tmp/x'", "images='/a b'", "class_name='it'", "classes.names=[a,'$b']"]
    edit(folder / "summary.json", overrides=typed)
    (folder / "report.html").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="write it anew") as error:
        _ = load(folder).report
    command = f"{error.value}".split("`")[1]
    assert command.startswith('python -m lis.run store=/tmp/x "images=/a b" "class_name=\'it\'"')
    assert spelled(shlex.split(command)[3:]) == typed


def test_addresses_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = Report(tmp_path / "a #1?" / "report.html", "runs", (tmp_path / "secret.png",) * 26)
    assert report.link() == '<a href="a%20%231%3F/report.html" target="_blank">a #1?/report.html</a>'
    assert f"{report!r}" == f"Report of runs: {tmp_path / 'a #1?' / 'report.html'}, 26 figures"


def test_the_report_is_a_path_and_shows_itself(run: Run) -> None:
    assert Path(run.report) == run.folder / "report.html" and Path(run.report).read_text().startswith("<!DOCTYPE html>")
    names = [Path(name).stem for name in json.loads((run.folder / "report.json").read_text())["figures"]]
    assert list(run.figures) == names and all(file.is_file() for file in run.figures.values())
    page = run.report._repr_html_()
    assert page.count("<img") == min(3, len(names)) and (run.folder / "report.html").as_uri() in page
    assert len(page) < 150_000


def test_links_are_relative_to_the_working_folder(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    page = load("latest")._repr_html_()
    assert f'href="outputs/{WHEN}/report.html"' in page and ">ari_r</td>" in page and str(project) not in page
    assert ">5 × " in run["similarity"]._repr_html_()


def test_files_of_any_origin_are_shown_as_text(tmp_path: Path) -> None:
    """A title, a metric and a picture that another has written."""
    run = make_job(tmp_path / "run", metrics={"<script>": 1.0})
    edit(run / "report.json", title="<script>alert(1)</script>")
    (run / "figures").mkdir()
    (run / "figures" / "bomb.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 20)).save(run / "figures" / "small.png")
    loaded = load(run)
    page = loaded._repr_html_() + loaded.report._repr_html_()
    assert "<script>" not in page and "bomb: cannot be shown" in page and page.count("<img") == 1


def test_an_older_run_is_read_in_new_names(tmp_path: Path) -> None:
    run = make_job(tmp_path / "outputs" / "a" / "b", metrics={"units/realised": 0.5})
    settings = {"strips.units": 3, "analysis.stages": ["units"], "seed": 0}
    edit(run / "report.json", settings=settings)
    edit(run / "summary.json", artifacts={"link": KEY, "units": KEY[::-1]}, overrides=["analysis=units"])
    (run / "tables" / "link").rename(run / "tables" / "units")
    loaded = load(run)
    assert loaded.settings == {"traversal.units": 3, "analysis.stages": ["unit_statistics"], "seed": 0}
    assert loaded.metrics["unit_statistics/reencoded_share"] == 0.5
    assert loaded.stages == ("link", "unit_statistics", "evaluation")
    assert loaded["units"].name == "unit_statistics" and loaded["units"].tables == ["units"] and "units" in loaded
    assert len(loaded["unit_statistics"].table("units")) > 0
    with pytest.raises(ValueError, match=r"outputs/store; .*`python -m lis.run analysis=unit_statistics`"):
        loaded["unit_statistics"].tensors("tuned")


def test_a_run_before_stores_were_noted_has_its_tables(tmp_path: Path) -> None:
    loaded = load(make_job(tmp_path / "run"))
    assert loaded.stages == ("evaluation", "link") and loaded.versions == {} and loaded.seconds is None
    assert len(loaded["link"].table("units")) > 0 and loaded["evaluation"].tensors("examples")["image"].ndim == 4
    with pytest.raises(ValueError, match="noted no key of the store"):
        loaded["link"].tensors("link")


def test_a_run_whose_page_failed_has_settings_and_numbers(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    (tmp_path / "run" / "report.html").unlink()
    edit(tmp_path / "run" / "failure.json", error="1 of 3 sections failed", type="ReportError")
    failed = load(tmp_path / "run")
    assert failed.metrics == run.metrics and failed.settings["pairs.train"] == 60
    assert failed.failure == "1 of 3 sections failed" and "failed: 1 of 3" in f"{failed}"
    assert "Failed: 1 of 3" in failed._repr_html_()
    with pytest.raises(ValueError, match=r"report.html is not there: write it anew: `python -m lis.run size=smoke"):
        _ = failed.report


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "folder of no run: expected report.json and summary.json"),
        ({".hydra/config.yaml": "seed: 0", ".hydra/overrides.yaml": "- seed=1"}, "lis.run seed=1` goes on from there"),
        ({"failure.json": '{"error": "no class hund"}', ".hydra/config.yaml": ""}, "failed: no class hund; mend that"),
        ({"b/summary.json": "{}", "a/c/summary.json": "{}"}, "is no run, but holds some: .*/b$"),
        ({"report.json": "[]"}, "report.json holds list: expected a JSON object; run the same"),
        (
            {"report.json": '{"settings": 3, "metrics": {}, "labels": {}}'},
            "report.json: settings is int: expected dict",
        ),
        ({"report.json": '{"settings": {}, "metrics": {}}'}, "labels is missing: expected dict"),
        ({"summary.json": '{"overrides": 3}'}, "summary.json: overrides is int: expected list"),
        ({"report.json": FACTS % ('{"a": "x"}', "[]")}, "metrics holds 'x': expected numbers"),
        ({"report.json": FACTS % ('{"a": 1%s}' % ("0" * 400), "[]")}, "metrics holds 10*: expected numbers"),
        ({"report.json": FACTS % ("{}", "[{}]")}, "figures holds {}: expected texts"),
        ({"report.json": '{"settings": {"store": 5}, "metrics": {}, "labels": {}}'}, "store holds 5: expected a path"),
        ({"summary.json": "{}", ".hydra/config.yaml": "classes: {names: 3}"}, "classes.names is int: expected list"),
        ({"failure.json": "{}", ".hydra/config.yaml": ""}, "failure.json: error is None: expected a text"),
        ({"summary.json": "{}", ".hydra/config.yaml": "[1]"}, "config.yaml holds list: expected keys and values"),
        ({"summary.json": "{}", ".hydra/config.yaml": "a: 'b"}, "config.yaml cannot be read"),
        ({"summary.json": "{}", ".hydra/config.yaml": BOMB}, "config.yaml cannot be read .an alias"),
        ({"summary.json": "{}", ".hydra/overrides.yaml": BOMB}, "overrides.yaml cannot be read .an alias"),
        ({"summary.json": "{}", ".hydra/overrides.yaml": "- [1]"}, "overrides.yaml holds .* expected a list of texts"),
        ({"summary.json": "{}", ".hydra/hydra.yaml": BOMB}, "hydra.yaml cannot be read .an alias"),
        ({"summary.json": '{"seconds": "x"}'}, "seconds holds 'x': expected a number"),
        ({"summary.json": '{"artifacts": {"link": "../../secrets"}}'}, "notes no artifacts"),
        ({"summary.json": json.dumps({"artifacts": {"../link": KEY}})}, "notes no artifacts"),
    ],
)
def test_a_folder_of_no_run_is_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_the_latest_is_the_newest_with_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"there is no run with a result in {re.escape(str(tmp_path))}/outputs"):
        load("latest")
    for day, time in (("2025-12-31", "23-59-59"), ("2026-01-01", "00-00-00"), ("multirun", "2027-01-01")):
        make_job(tmp_path / "outputs" / day / time)
    (tmp_path / "outputs" / "2026-01-01" / "01-00-00").mkdir()
    assert load("latest").folder == tmp_path / "outputs" / "2026-01-01" / "00-00-00"
    assert f"{load('latest')}".startswith("Run of 00-00-00, in outputs/2026-01-01/00-00-00: ")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three jobs, of which one has failed."""
    for job, link in enumerate(("lr", "ridge", "fc_l1")):
        folder = make_job(tmp_path / f"{job}", link, metrics={"link/samples": 100.0 * job})
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").touch()
        edit(folder / "metrics.json")
    edit(tmp_path / "2" / "failure.json", error="no <b>room</b>")
    (tmp_path / "2" / "report.json").unlink()
    (tmp_path / "multirun.yaml").touch()
    return tmp_path


def test_a_sweep_is_a_table_of_what_varied_and_what_was_found(sweep: Path) -> None:
    loaded = load_sweep(sweep)
    assert [job.labels["link"] for job in loaded.jobs] == ["lr", "ridge"] and loaded.failures == {"2": "no <b>room</b>"}
    table = loaded.table
    assert table.columns[0] == "link" and table.index.tolist() == ["0", "1"]
    assert table["link"].tolist() == ["lr", "ridge"] and table["link/samples"].tolist() == [0, 100]
    assert f"{loaded}" == f"Sweep of 2 runs, 1 failed, in {sweep}: link varied"
    assert "no &lt;b&gt;room" in loaded._repr_html_() and ">ridge</td>" in loaded._repr_html_()
    with pytest.raises(ValueError, match=r"report.html is not there"):
        _ = loaded.report
    (sweep / "report.html").touch()
    assert isinstance(loaded.report, Report) and f"{loaded.report}" == f"{sweep / 'report.html'}"


def test_sweeps_and_runs_name_each_other(sweep: Path) -> None:
    with pytest.raises(ValueError, match=r"of a sweep, of the jobs 0, 1, 2: lis.load_sweep\('.*'\) reads them all"):
        load(sweep)
    with pytest.raises(ValueError, match="is the folder of no sweep"):
        load_sweep(sweep / "0")
    for job in ("0", "1"):
        (sweep / job / "report.json").unlink()
    with pytest.raises(ValueError, match=r"no job of .* has a result .*2: no <b>room</b>"):
        load_sweep(sweep)
