"""The page of one run: `report.html`, its figures, its tables, and what a comparison reads of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lis
from lis.report.animations import write_animations
from lis.report.atlas import write_atlas
from lis.report.evaluation import nothing_explained
from lis.report.findings import findings, warnings
from lis.report.html import (
    APPENDIX,
    KICKER,
    Attempts,
    Embedded,
    Number,
    Rendered,
    appendix_closed,
    draw,
    render,
    require_whole,
    show_all,
)
from lis.report.lead import lead
from lis.report.metrics import Measured, attempt_metrics
from lis.report.reproducibility import FILE, Card, card, reproducibility
from lis.report.schematic import drawing
from lis.report.section import CHAPTERS, anchor, discover, makers
from lis.report.source import Source, source
from lis.report.stored import REPORT, TABLES, VERSION, copy, fill, program
from lis.report.tables import mean
from lis.report.wording import LINKS_IN_WORDS, listing, metric_label, number, share, times, words
from lis.store import Artifact, Draft, Recipe

if TYPE_CHECKING:
    from lis.context import Context

_WORLD = (
    "Part world is a cartoon: drawn figures with known factors and parts. It shows whether the method finds what is "
    "known to be there; it is no evidence about photographs, nor for or against what the paper reports on ImageNet."
)
_LINEAR = "In this world w is linear in the factors, which favours a linear link by design; gan.hard=true removes that."
_HARD = "Here w depends on the factors through a fixed nonlinear map, so that a linear link is not right by design."
_OVERVIEW = "What was run"
_HEADLINE = ("mse_w", "pixel_l2", "lpips", "moco")


discover()  # here, so that an analysis that cannot be imported stops a run before its work


def write_report(ctx: Context, artifacts: Mapping[str, Artifact], out: Path, measured: Measured | None = None) -> Path:
    """Write `report.html`, `report.json`, `reproducibility.json`, `figures/*` (PNG, SVG, CSV, animations),
    `tables/<stage>/*` and the atlas.

    Args:
        ctx: the run.
        artifacts: by stage: `pairs/train`, `pairs/test`, `link`, `evaluation`, `similarity`, and those of later
            analyses. What is missing has no section.
        out: the run's folder, made when needed.
        measured: what `attempt_metrics` has returned for these artifacts, if it was called before.

    Returns:
        The page: one file without anything loaded from elsewhere.

    Raises:
        ReportError: a section, a figure, a table, the numbers of a stage, or the top or tail of the page failed; all
            else is written, and the page names it with its error.
    """
    out.mkdir(parents=True, exist_ok=True)
    run, folder = source(ctx, artifacts), out / "figures"
    metrics, unmeasured = attempt_metrics(artifacts) if measured is None else measured
    tried = Attempts([*unmeasured])
    for stage, artifact in artifacts.items():
        tried(f"Tables of {stage}", partial(_copy_tables, artifact, out / TABLES / stage), None)
    around, repetition = _around(run, tried), tried("Reproducibility", lambda: _card(ctx, run, out), None)
    first = tried("First picture", lambda: _first_picture(run, folder), None)
    rendered = show_all(makers(run), folder, run.facts.vectors)
    if run.facts.generated:
        rendered = with_overview(overview(run, folder, tried), rendered)
    tried("Animations", lambda: write_animations(run, folder), [])
    tried("Atlas", lambda: write_atlas(run, out), [])
    figures = [*filter(None, [first]), *(figure for section in rendered for figure in section.figures)]
    files = list(dict.fromkeys(figure.files[0] for figure in figures))
    facts = {"title": around["title"], "metrics": metrics, "figures": files}
    tried("Facts for a comparison", lambda: _write_facts(run, facts, out / "report.json"), None)
    evidence = {answer.anchor for answer in (*around["warnings"], *around["findings"])}
    sections = appendix_closed([*tried.failed, *rendered], evidence)
    page = render(
        "report.html.j2",
        out / "report.html",
        sections,
        kicker=KICKER,
        lead=first,
        last_chapter=APPENDIX,
        card=repetition,
        **around,
        footer=f"lis {lis.__version__}, seed {run.facts.settings['seed']}",
    )
    require_whole(sections, page)
    return page


def stored_report(
    ctx: Context, artifacts: Mapping[str, Artifact], out: Path, measured: Measured | None = None
) -> Artifact | None:
    """Write what `write_report` writes: drawn now, or copied from the store. Tables are copied from their stages.

    Args:
        ctx: the run.
        artifacts: by stage.
        out: an empty folder.
        measured: as of `write_report`.

    Returns:
        The report in the store; None where it does not say what it follows from.

    Raises:
        ReportError: as `write_report`; what it has written is not taken into the store.
    """
    recipe = Attempts()("Key of the report", lambda: report_recipe(ctx, source(ctx, artifacts)), None)
    if recipe is None or (measured is not None and measured[1]):  # which no page of the store says
        write_report(ctx, artifacts, out, measured)
        return None
    drawn: list[Path] = []

    def draw_now(draft: Draft) -> None:
        drawn.append(write_report(ctx, artifacts, out, measured))
        fill(draft, out)

    report = ctx.store.make(recipe, draw_now)
    if not drawn:
        copy(report.path, out, report.manifest["files"])
        for stage, artifact in artifacts.items():
            _copy_tables(artifact, out / TABLES / stage)
    return report


def report_recipe(ctx: Context, run: Source) -> Recipe:
    """What a report follows from: everything that its page says of a run or of the program.

    An artifact that was made again, as after `python -m lis.store prune`, took other seconds: the card tells its date.
    """
    told = asdict(run.facts) | {"settings": {key: repr(value) for key, value in run.facts.settings.items()}}
    config = {"facts": told, "card": reproducibility(ctx, run), "program": program()}
    return Recipe(REPORT, VERSION, config, tuple(artifact.key for artifact in run.artifacts.values()))


def _around(run: Source, tried: Attempts) -> dict[str, Any]:
    """What stands above and below the sections."""
    return {
        "title": tried("Title", lambda: title(run), KICKER),
        "line": tried("Line", lambda: what_was_run(run), ""),
        "warnings": tried("Warnings", lambda: warnings(run, "run", tried), []),
        "findings": tried("Findings", lambda: findings(run, "run", tried), []),
        "limits": tried("Limits", lambda: limits(run), []),
    }


def _card(ctx: Context, run: Source, out: Path) -> Card:
    """What a repetition needs, which is written beside the page, too."""
    made = card(ctx, run)
    (out / FILE).write_text(json.dumps(made.facts, indent=1, ensure_ascii=False), encoding="utf-8")
    return made


def _first_picture(run: Source, folder: Path) -> Embedded | None:
    picture = lead(run)
    return draw(picture, folder, run.facts.vectors) if picture else None


def overview(run: Source, folder: Path, tried: Attempts) -> Rendered:
    """What was run, the numbers that say whether the link works, and the schematic: the first section on the link."""
    about = tried("Abstract", lambda: abstract(run), "")
    numbers = tried("Headline", lambda: headline(run), [])
    schematic = tried("Schematic", lambda: [draw(replace(x, aside=True), folder) for x in drawing(run)], [])
    return Rendered(_OVERVIEW, anchor(_OVERVIEW), about, schematic, (), (), chapter=CHAPTERS[2], numbers=numbers)


def with_overview(overview: Rendered, sections: Sequence[Rendered]) -> list[Rendered]:
    """The sections of a page with the overview behind those that the user asked for."""
    asked = len(list(takewhile(lambda section: section.chapter in ("", CHAPTERS[1]), sections)))
    return [*sections[:asked], overview, *sections[asked:]]


def limits(run: Source) -> list[str]:
    """What was left out and why, and what the numbers are no evidence for."""
    left_out = run.json("evaluation", "left_out") if run.has("evaluation", "left_out") else {}
    lines = [f"{metric_label(metric)} was left out: {reason}" for metric, reason in left_out.items()]
    if run.facts.known_truth and run.facts.generated:
        lines.append(f"{_WORLD} {_HARD if run.facts.nonlinear_world else _LINEAR}")
    return lines


def _copy_tables(artifact: Artifact, folder: Path) -> None:
    """Every table, and the examples, which a comparison shows again; none by half, which it could not read."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*artifact.path.glob("*.parquet"), *artifact.path.glob("examples.safetensors")]:
        try:
            shutil.copyfile(file, folder / file.name)
        except OSError:
            (folder / file.name).unlink(missing_ok=True)
            raise


def _write_facts(run: Source, result: Mapping[str, object], path: Path) -> None:
    """What a comparison reads: the names and settings of a run beside what was found."""
    facts = run.facts
    known = {"labels": facts.labels, "class_names": list(facts.class_names), "settings": dict(facts.settings)}
    path.write_text(json.dumps({**known, **result}, indent=1), encoding="utf-8")


def title(source: Source) -> str:
    """What was linked to what, or what saw which images where no link was fitted."""
    facts = source.facts
    if not facts.generated:
        return f"{facts.classifier} on pictures of a folder"
    if not facts.linked:
        return f"{facts.classifier} on images of {facts.generator}: {facts.classes}"
    return f"{facts.classifier} linked to {facts.generator}: {facts.classes}"


def what_was_run(source: Source) -> str:
    """Sizes and settings in one line."""
    facts = source.facts
    if not facts.generated:
        folder, seed = Path(str(facts.settings["images"])).name, facts.settings["seed"]
        return f"Pictures of the folder {folder}; seed {seed}."
    pairs, seed = facts.settings["pairs.train"], facts.settings["seed"]
    if not facts.linked:
        return f"No link was fitted. {pairs:,} images of each of {len(facts.class_names)} classes; seed {seed}."
    means = f" ({LINKS_IN_WORDS[facts.link]})" if facts.link in LINKS_IN_WORDS else ""
    return (
        f"{facts.link_label}{means} links the classifier's {facts.units:,} units to the generator's "
        f"{facts.w_dim}-dimensional code w. {pairs:,} images of each of {len(facts.class_names)} classes; seed {seed}."
    )


def abstract(source: Source) -> str:
    """What was done, in two sentences, and that it shows nothing where it does not."""
    facts, classes = source.facts, f"Classes: {listing([words(n) for n in source.facts.class_names])}."
    if not facts.linked:
        return f"The images are those of {facts.generator}; no link was fitted. {classes}"
    means = f" ({LINKS_IN_WORDS[facts.link]})" if facts.link in LINKS_IN_WORDS else ""
    return (
        f"A link, {facts.link_label}{means}, maps the {facts.units} units of the penultimate layer of "
        f"{facts.classifier} to the {facts.w_dim}-dimensional latent space W of {facts.generator}, so that the "
        f"generator shows what the classifier represents. {classes} {nothing_explained(source)}"
    ).strip()


def headline(source: Source) -> list[Number]:
    """The numbers that say whether the link works, each beside its baseline."""
    numbers = []
    for metric in _HEADLINE:
        if (row := source.row("evaluation", "summary", "metric", metric)) is not None:
            beside = f"{number(row['cycle'])} after the cycle, {number(row['random'])} between random pairs"
            numbers.append(Number(metric_label(metric), times(row["ratio_random"]), beside))
    if (row := source.row("evaluation", "kept", "class", "all")) is not None:
        beside = f"[{share(row['low'])}, {share(row['high'])}] of {int(row['n']):,} cycled images"
        numbers.append(Number("Class kept", share(row["kept"]), beside))
    if source.has("evaluation", "factors"):
        table = source.table("evaluation", "factors")
        r2, within = (number(mean(table, name), 2) for name in ("r2", "r2_within"))
        numbers.append(Number("True factors", f"R² {r2}", f"{within} within classes"))
    if source.has("similarity", "similarity"):
        table = source.table("similarity", "similarity")
        told = {name: number(mean(table, name), 2) for name in table.columns}
        beside = f"of distances {told['rsa_dissimilarity']}; ARI {told['ari_r']} in R, {told['ari_w']} in W"
        numbers.append(Number("RSA of R and W", told["rsa_similarity"], beside))
    return numbers
