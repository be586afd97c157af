"""Sweeps: jobs beside each other, what is drawn once, and what is told of every job at the end."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.commandline import SMALL, lis, made
from helpers.findings import make_artifacts, make_ctx
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from omegaconf import DictConfig
from safetensors.torch import save_file
from test_callbacks import config_of

from lis import callbacks, compose, stages
from lis import job as lis_job
from lis.callbacks import Compositions, SweepReport, ended
from lis.classifiers.partnet import CLASSES, WEIGHTS, read_network
from lis.compose import composer
from lis.isolation import Died, isolated
from lis.report import page
from lis.report.html import Embedded, Number, Rendered, ReportError
from lis.report.outcomes import outcome_table
from lis.report.page import report_recipe, stored_report
from lis.report.section import Table
from lis.report.source import source
from lis.report.stored import stored_sections
from lis.stopping import Stopped, stop
from lis.store import Artifact, Store
from lis.store.inventory import Inventory, runs
from lis.store.pruning import Rules, removals

LAUNCHERS: dict[str, type] = {"joblib": JobLibLauncherConf, "submitit_local": LocalQueueConf, "slurm": SlurmQueueConf}
SECTIONS = [
    Rendered(
        title="Gains",
        anchor="gains",
        lead="A lead.",
        figures=[Embedded(["gains.png", "gains.csv"], "data:image/png;base64,AA", 300, "A caption.", "Alt.", "chart")],
        tables=[Table("A table.", ["", "LR"], [["dogs", "1"], ["birds", "2"]], frozenset({(1, 1)}))],
        notes=["A note."],
        numbers=[Number("Kept", "90 %", "of 10")],
    )
]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return make_artifacts(tmp_path_factory.mktemp("artifacts"))


class Pages:
    """In the place of `write_report`: writes little, and counts."""

    def __init__(self) -> None:
        self.drawn = 0
        self.error: Exception | None = None

    def __call__(self, ctx: Any, artifacts: Any, out: Path, measured: Any = None) -> Path:
        self.drawn += 1
        for name in ("report.html", "report.json", "figures/link.png", "tables/link/units.parquet"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(f"{name} {self.drawn}")
        if self.error:
            raise self.error
        return out / "report.html"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    made = Pages()
    monkeypatch.setattr(page, "write_report", made)
    return made


@pytest.fixture
def ctx(tmp_path: Path) -> Any:
    made = make_ctx(tmp_path)
    made.store = Store(tmp_path / "store")
    return made


def stored(ctx: Any, artifacts: dict[str, Artifact], out: Path) -> Artifact:
    """The report of a run, which the store has taken."""
    report = stored_report(ctx, artifacts, out)
    assert report is not None
    return report


def test_a_page_is_drawn_once_and_copied_from_then_on(
    pages: Pages, ctx: Any, artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    first, second = (stored(ctx, artifacts, tmp_path / name) for name in ("a", "b"))
    assert pages.drawn == 1 and first.key == second.key
    for name in ("report.html", "report.json", "figures/link.png"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
        assert not (tmp_path / "b" / name).samefile(first.path / name)
    # Tables are those of the stages, which the store holds anyway.
    assert set(first.manifest["files"]) == {"report.html", "report.json", "figures/link.png"}
    copied = (tmp_path / "b" / "tables" / "link" / "units.parquet").read_bytes()
    assert copied == (artifacts["link"].path / "units.parquet").read_bytes()


def test_a_page_follows_from_everything_that_it_says(
    ctx: Any, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = source(ctx, artifacts)
    facts, link = run.facts, artifacts["link"]
    later = replace(link, manifest={**link.manifest, "created": "2026-01-01"})
    without = {name: artifacts[name] for name in artifacts if name != "similarity"}
    others = [
        report_recipe(ctx, replace(run, facts=replace(facts, settings={**facts.settings, "seed": 1}))),
        report_recipe(ctx, replace(run, facts=replace(facts, device="another"))),
        report_recipe(ctx, replace(run, artifacts={**artifacts, "link": later})),
        report_recipe(ctx, replace(run, artifacts=without)),
    ]
    same = report_recipe(ctx, run)
    assert report_recipe(ctx, run).key == same.key
    for name, told in (("program", {"lis": "another"}), ("reproducibility", {"command": "another"})):
        monkeypatch.setattr(page, name, lambda *_, told=told: told)
        others.append(report_recipe(ctx, run))
    assert len({same.key, *(other.key for other in others)}) == 7


def test_a_page_that_is_not_whole_is_drawn_again(
    pages: Pages, ctx: Any, artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    pages.error = ReportError("a section failed")
    with pytest.raises(ReportError):
        stored(ctx, artifacts, tmp_path / "a")
    assert (tmp_path / "a" / "report.html").is_file()
    pages.error = None
    stored(ctx, artifacts, tmp_path / "b")
    assert pages.drawn == 2


def test_sections_of_a_comparison_come_back_as_they_were(tmp_path: Path) -> None:
    calls: list[Path] = []

    def show(folder: Path) -> list[Rendered]:
        calls.append(folder)
        folder.mkdir()
        (folder / "gains.png").write_text("a picture")
        return SECTIONS

    store = Store(tmp_path / "store")
    drawn, held = stored_sections(store, ["a" * 32], tmp_path / "first", show)
    again, same = stored_sections(store, ["a" * 32], tmp_path / "second", show)
    assert again == drawn == SECTIONS and held and same and held.key == same.key
    assert calls == [tmp_path / "first"]
    assert [file.name for file in (tmp_path / "second").iterdir()] == ["gains.png"]
    other, _ = stored_sections(store, ["b" * 32], tmp_path / "third", show)
    assert other == SECTIONS and len(calls) == 2


def test_sections_that_failed_are_not_kept(tmp_path: Path) -> None:
    failed = [replace(SECTIONS[0], error="KeyError: 'link'")]
    _, held = stored_sections(Store(tmp_path / "store"), ["a" * 32], tmp_path / "out", lambda _: failed)
    assert held is None


def test_pages_in_the_store_are_named_by_runs_and_sweeps(
    pages: Pages, ctx: Any, artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    report = stored(ctx, artifacts, tmp_path / "outputs" / "run" / "0")
    _, comparison = stored_sections(ctx.store, [report.key], tmp_path / "figures", lambda _: SECTIONS)
    assert comparison is not None
    inventory = Inventory(tmp_path / "store")
    assert [user.key for user in inventory.users()[report.key]] == [comparison.key]
    assert inventory.by_key[report.key].inputs == tuple(artifact.key for artifact in artifacts.values())
    sweep = tmp_path / "outputs" / "run"
    (sweep / "0" / "summary.json").write_text(json.dumps({"artifacts": {}, "report": report.key}))
    assert runs([tmp_path / "outputs"], tmp_path / "store") == {sweep / "0": {report.key}}
    assert unused(inventory, {report.key}) == {comparison.key}
    (sweep / "sweep.json").write_text(json.dumps({"artifacts": {"comparison": comparison.key}}))
    named = runs([tmp_path / "outputs"], tmp_path / "store")
    assert named[sweep] == {comparison.key} and unused(inventory, {comparison.key}) == set()


def unused(inventory: Inventory, used: set[str]) -> set[str]:
    """Keys of what would be pruned."""
    return {removal.path.name for removal in removals(inventory, Rules(used, days=0))}


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL, as the system does where memory runs out"),
        (lambda: os.kill(os.getpid(), signal.SIGHUP), "killed by SIGHUP$"),
        (lambda: os._exit(3), "ended with 3"),
        (lambda: 1 / 0, "ended with 1"),
    ],
)
def test_a_job_that_dies_is_told_and_costs_nothing_else(work: Callable[[], object], told: str) -> None:
    with pytest.raises(Died, match=told):
        isolated(work)


def stop_itself(file: Path) -> None:
    """Stops between two shards."""
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        stop.check()
    finally:
        file.write_text("cleaned up")


def test_a_job_that_is_asked_to_stop_does_so_between_two_shards(tmp_path: Path) -> None:
    with pytest.raises(Died, match="stopped by SIGTERM"):
        isolated(partial(stop_itself, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "cleaned up"


def wait_to_be_stopped(parent: int, file: Path) -> None:
    """Has the parent alone be sent a signal, and waits for one."""
    os.kill(parent, signal.SIGTERM)
    for _ in range(600):
        stop.check()
        time.sleep(0.1)
    file.write_text("nobody stopped it")


def test_a_signal_to_the_process_of_a_job_alone_reaches_the_job(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        isolated(partial(wait_to_be_stopped, os.getpid(), tmp_path / "file"))
    assert not (tmp_path / "file").exists()


def test_a_job_that_ends_well_has_done_its_work_elsewhere(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    isolated(lambda: (tmp_path / "pid").write_text(str(os.getpid())))
    assert int((tmp_path / "pid").read_text()) != os.getpid() and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_have_keys_that_their_plugins_know(name: str) -> None:
    stages.register()
    with composer() as each:
        launcher = each.composed([f"hydra/launcher={name}"]).hydra.launcher
        each.check([f"hydra/launcher={name}", "seed=0,1"], multirun=True)
    known = {field.name: field.default for field in fields(LAUNCHERS[name])}
    assert launcher._target_ == known["_target_"] and set(launcher) <= set(known)


def test_a_launcher_that_is_not_installed_is_refused_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stages.register()
    monkeypatch.setattr(compose, "find_spec", lambda name: None)
    with composer() as each, pytest.raises(ValueError, match=r"\S") as error:
        each.check(["hydra/launcher=slurm", "seed=0,1"], multirun=True)
    needed = "needs the package hydra-submitit-launcher: pip install 'lis[sweep]'"
    assert str(error.value) == f"hydra/launcher=slurm {needed}"


def finished(folder: Path, overrides: list[str], **files: Any) -> Path:
    """The folder of a job with JSON files by their names."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").touch()
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def write_network(folder: Path, bias: float) -> None:
    """PartNet's weights with another bias of the head, and the option `classifier=mine` that names them."""
    state = read_network(WEIGHTS / "partnet_classes.safetensors")
    save_file(state | {"head.bias": state["head.bias"] + bias}, folder / "mine.safetensors")
    (folder / "classifier").mkdir(exist_ok=True)
    (folder / "classifier" / "mine.yaml").write_text(
        f"defaults: [base_network, _self_]\nlibrary: partnet\nmodel: partnet\ndomain: partworld\n"
        f"weights: {folder / 'mine.safetensors'}\nnum_classes: {len(CLASSES)}\nclass_names: [{', '.join(CLASSES)}]\n"
    )


@pytest.mark.slow
def test_the_same_sweep_again_does_what_is_missing(tmp_path: Path) -> None:
    sweep = (
        *(f"--config-dir={tmp_path}", "-m", *SMALL, "threads=1", "analysis.stages=[link]", "pairs.train=20", "store=s"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "link=lr,ridge", "classifier=partnet,mine"),
    )

    def run(name: str) -> tuple[int, str, list[str]]:
        code, output = lis(*sweep, f"hydra.sweep.dir={name}", cwd=tmp_path)
        jobs = [tmp_path / name / f"{job}" for job in range(4)]
        assert all((job / "lis.log").is_file() for job in jobs), output
        return code, output, sorted(line for job in jobs for line in made(job))

    write_network(tmp_path, float("nan"))
    code, output, first = run("broken")
    assert code == 1 and "2 of 4 jobs failed" in output and "classifier=mine): " in output, output
    assert "mine.safetensors holds values that are not finite in 1 tensors (head.bias)" in output
    assert stages_of(first) == ["comparison", "link", "link", "pairs-train", "report", "report"] and len(
        {*first}
    ) == len(first)
    marked = (tmp_path / "broken" / "report.html").read_text()
    assert marked.count("<strong>failed (") == 2 and "link=ridge classifier=mine" in marked
    write_network(tmp_path, 0.0)
    code, output, repaired = run("repaired")
    assert code == 0 and stages_of(repaired) == stages_of(first) and not {*repaired} & {*first}, output
    code, output, again = run("again")
    assert code == 0 and again == [] and "made comparison" not in output, output
    for file in ("report.html", "report.json", "tables/link/units.parquet"):
        assert (tmp_path / "again" / "1" / file).read_bytes() == (tmp_path / "repaired" / "1" / file).read_bytes()


def stages_of(lines: list[str]) -> list[str]:
    """Stages of what was made, without shards."""
    return sorted(stage for line in lines if not (stage := line.partition(" ")[0]).endswith("-shard"))


def test_every_job_has_a_row_and_every_failed_one_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compared: list[Any] = []
    monkeypatch.setattr(callbacks, "_compare", lambda *arguments: compared.append(arguments))
    numbers = {"class_kept": 0.9, "link/samples": 300}
    finished(tmp_path / "0", ["seed=0"], metrics=numbers, summary={"artifacts": {}, "seconds": 4.5})
    failing = finished(tmp_path / "10", ["+experiment=fig3", "seed=1"], failure={"error": "no such unit", "seconds": 2})
    (failing / "lis.log").write_text("\n".join(f"line {k}" for k in range(20)))
    finished(tmp_path / "2", [])
    with pytest.raises(SystemExit) as error:
        SweepReport().on_multirun_end(config_of(tmp_path))
    assert error.value.code == 1
    with (tmp_path / "jobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["status"], row["seconds"], row["class_kept"]) for row in rows] == [
        ("0", "done", "4.5", "0.9"),
        ("2", "failed", "", ""),
        ("10", "failed", "2.0", ""),
    ]
    assert rows[2]["overrides"] == "'+experiment=fig3 seed=1" and rows[2]["failure"] == "no such unit"
    assert "link/samples" not in rows[0]
    told = caplog.text
    assert "2 of 3 jobs failed:" in told and "job 2 (no overrides): it ended without a result" in told
    assert "job 10 (+experiment=fig3 seed=1): no such unit\n    line 14" in told and "line 19" in told
    (jobs, outcomes, _) = compared[0]
    assert jobs == [tmp_path / "0"] and [one.failure is None for one in outcomes] == [True, False, False]


def test_a_dashboard_that_fails_hides_no_failed_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no key")

    monkeypatch.setattr("lis.dashboard.show_sweep", fail)
    finished(tmp_path / "0", ["seed=0"], failure={"error": "no such unit"})
    with pytest.raises(SystemExit):
        SweepReport().on_multirun_end(config_of(tmp_path))
    assert "the dashboard of the sweep is not whole" in caplog.text and "job 0 (seed=0): no such unit" in caplog.text


def test_what_a_job_wrote_and_nobody_can_read_is_its_failure(tmp_path: Path) -> None:
    broken = finished(tmp_path / "0", ["seed=0"], failure={"error": 3})
    outcome = callbacks.outcome(broken, {})
    assert outcome.failure and "error is 3: expected a text" in outcome.failure
    assert outcome_table([outcome])["status"].tolist() == ["failed"]


def test_a_sweep_whose_launcher_gives_up_tells_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks, "_compare", lambda *_: None)
    report = SweepReport()
    report.on_multirun_start(config_of(tmp_path))
    finished(tmp_path / "0", ["seed=0"])
    with pytest.raises(SystemExit), ended():
        raise SystemExit(1)  # as Hydra ends where a launcher raises
    assert "the launcher has given up" in caplog.text and "job 0 (seed=0): it ended without a result" in caplog.text
    assert SweepReport.running is None and (tmp_path / "jobs.csv").is_file()


def test_a_run_that_fails_is_no_sweep(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit), ended():
        raise SystemExit(1)
    assert caplog.text == ""


def kill_the_second() -> None:
    """In place of a job: is killed where the seed is 1, and else does nothing."""

    def work(config: DictConfig) -> None:
        if config.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    lis_job.job = work


@pytest.mark.slow
def test_a_job_that_is_killed_is_a_failed_one(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "store=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=0,1,2")
    code, output = lis(*sweep, "hydra.sweep.dir=sweep", cwd=tmp_path, before=kill_the_second)
    assert code == 1 and (tmp_path / "sweep" / "2" / "lis.log").is_file(), output
    reason = json.loads((tmp_path / "sweep" / "1" / "failure.json").read_text())
    assert reason["type"] == "Died" and reason["error"].startswith("its process was killed by SIGKILL")
    assert "3 of 3 jobs failed" in output and "seed=1): its process was killed by SIGKILL" in output


@pytest.mark.full
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_links_class_sets_and_classifiers_make_each_pair_set_once(launcher: str, tmp_path: Path) -> None:
    varied = ("link=lr,ridge,fc_l1", "classes=dogs,birds,fungi", "classifier=partnet,partnet_attributes")
    sweep = ("-m", *SMALL, "threads=1", "store=s", f"hydra/launcher={launcher}", *varied)
    code, output = lis(*sweep, "hydra.sweep.dir=first", cwd=tmp_path, timeout=3000)
    assert code == 0, output
    lines = [line for job in range(18) for line in made(tmp_path / "first" / f"{job}") if "comparison" not in line]
    assert len({*lines}) == len(lines)
    each = {"pairs-train": 6, "pairs-test": 6, "similarity": 6, "link": 18, "evaluation": 18, "report": 18}
    assert Counter(stages_of(lines)) == each
    code, output = lis(*sweep, "hydra.sweep.dir=second", cwd=tmp_path, timeout=3000)
    assert code == 0 and "made comparison" not in output, output
    assert not [line for job in range(18) for line in made(tmp_path / "second" / f"{job}")]
    figures = [sorted((tmp_path / name / "figures").iterdir()) for name in ("first", "second")]
    assert [file.read_bytes() for file in figures[0]] == [file.read_bytes() for file in figures[1]]


@pytest.mark.full
def test_jobs_of_submitit_share_their_work_and_are_told(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "threads=1", "analysis.stages=[link]", "store=s", "hydra/launcher=submitit_local")
    code, output = lis(*sweep, "device=cpu,abacus", "link=lr,ridge", "hydra.sweep.dir=sweep", cwd=tmp_path, timeout=900)
    assert code == 1 and "2 of 4 jobs failed" in output and "unknown device 'abacus'" in output, output
    lines = [line for job in range(4) for line in made(tmp_path / "sweep" / f"{job}")]
    assert stages_of(lines) == ["link", "link", "pairs-train", "report", "report"] and len({*lines}) == len(lines)
    assert (tmp_path / "sweep" / "report.html").is_file()


def test_a_job_is_composed_once_and_equal_jobs_each() -> None:
    """Hydra asks for all jobs to check the sweep, and again for each to start it, which changes what it was given."""
    made: list[DictConfig] = []

    def compose(master_config: DictConfig, overrides: list[str]) -> DictConfig:
        made.append(DictConfig({"overrides": overrides}))
        return made[-1]

    each, jobs = Compositions(compose), (["seed=0"], ["seed=1"], ["seed=0"])
    checked = [each(DictConfig({}), job) for job in jobs]
    started = [each(DictConfig({}), job) for job in jobs]
    assert [config.overrides for config in started] == [*jobs] and len({id(config) for config in started}) == 3
    assert started[1] is checked[1] and len(made) == 4
