"""The page of one run: `report.html`, its figures, its tables, and what a comparison reads of it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

import lis
from lis.report.animations import write_animations
from lis.report.evaluation import nothing_explained
from lis.report.html import KICKER, Attempts, Number, draw, render, require_whole, show_all
from lis.report.marks import picture
from lis.report.metrics import Measured, attempt_metrics
from lis.report.section import Picture, discover, makers
from lis.report.source import Source, source
from lis.report.style import INK, LINK_RED, MUTED, PANEL, WIDE, plain, styled
from lis.report.tables import mean
from lis.report.wording import LINKS_IN_WORDS, listing, metric_label, number, share, times, words

if TYPE_CHECKING:
    from lis.context import Context
    from lis.store import Artifact

_WORLD = (
    "Part world is a cartoon: drawn figures with known factors and parts. It shows whether the method finds what is "
    "known to be there; it is no evidence about photographs, nor for or against what the paper reports on ImageNet."
)
_LINEAR = "In this world w is linear in the factors, which favours a linear link by design; gan.hard=true removes that."
_HARD = "Here w depends on the factors through a fixed nonlinear map, so that a linear link is not right by design."
_HEADLINE = ("mse_w", "pixel_l2", "lpips", "moco")
Point = tuple[float, float]
_HEIGHT = 4.5
_TOP, _BOTTOM, _LANE = 3.22, 1.52, 0.42
"""Heights in inches of the row of the original, of the cycled row, and of the link's way back."""
_W, _GENERATOR, _IMAGE, _CLASSIFIER, _R = 2.62, (3.2, 4.62), 5.72, (6.85, 8.27), 9.1


discover()  # here, so that an analysis that cannot be imported stops a run before its work


def write_report(ctx: Context, artifacts: Mapping[str, Artifact], out: Path, measured: Measured | None = None) -> Path:
    """Write `report.html`, `report.json`, `figures/*.png`, animations and `tables/<stage>/*` of a run.

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
        tried(f"Tables of {stage}", partial(_copy_tables, artifact, out / "tables" / stage), None)
    around = _around(run, tried)
    schematic = tried("Schematic", lambda: [draw(picture, folder) for picture in drawing(run)], [])
    rendered = show_all(makers(run), folder)
    tried("Animations", lambda: write_animations(run, folder), [])
    figures = [*schematic, *(figure for section in rendered for figure in section.figures)]
    facts = {"title": around["title"], "metrics": metrics, "figures": [figure.file for figure in figures]}
    tried("Facts for a comparison", lambda: _write_facts(run, facts, out / "report.json"), None)
    sections = [*tried.failed, *rendered]
    page = render(
        "report.html.j2",
        out / "report.html",
        sections=sections,
        kicker=KICKER,
        schematic=schematic,
        **around,
        configuration="\n".join(f"{key}: {value}" for key, value in run.facts.settings.items()),
        footer=f"lis {lis.__version__}, seed {run.facts.settings['seed']}",
    )
    require_whole(sections, page)
    return page


def _around(run: Source, tried: Attempts) -> dict[str, Any]:
    """What stands above and below the sections."""
    return {
        "title": tried("Title", lambda: title(run), KICKER),
        "abstract": tried("Abstract", lambda: abstract(run), ""),
        "numbers": tried("Headline", lambda: headline(run), []),
        "limits": tried("Limits", lambda: limits(run), []),
        "settings": tried("Settings", lambda: settings(run), []),
    }


def limits(run: Source) -> list[str]:
    """What was left out and why, and what the numbers are no evidence for."""
    left_out = run.json("evaluation", "left_out") if run.has("evaluation", "left_out") else {}
    lines = [f"{metric_label(metric)} was left out: {reason}" for metric, reason in left_out.items()]
    if run.facts.known_truth:
        lines.append(f"{_WORLD} {_HARD if run.facts.nonlinear_world else _LINEAR}")
    return lines


def settings(run: Source) -> list[tuple[str, str]]:
    """What a reader needs to repeat the run: names, sizes, seed, versions, device, times."""
    facts, flat = run.facts, run.facts.settings
    size, packages = f"{facts.resolution} × {facts.resolution} pixels", ("torch", "numpy", "scikit-learn")
    versions = [
        f"lis {lis.__version__}",
        f"Python {platform.python_version()}",
        *(f"{x} {version(x)}" for x in packages),
    ]
    seconds = {stage: artifact.manifest.get("seconds") for stage, artifact in run.artifacts.items()}
    rows = [
        ("Generator", f"{facts.generator}: W has {facts.w_dim} dimensions, {size}"),
        ("Classifier", f"{facts.classifier}: {facts.units} units in the penultimate layer"),
        ("Link", facts.link_label),
        ("Classes", f"{facts.classes}: {', '.join(words(name) for name in facts.class_names)}"),
        ("Parts", ", ".join(flat.get("classes.labels", [])) or "no labels given"),
        ("Pairs per class", f"{flat['pairs.train']:,} for the fit, {flat['pairs.test']:,} for the test"),
        ("Samples taken", f"pairs.accept={flat['pairs.accept']}; truncation {flat['gan.truncation']}"),
        ("Seed", str(flat["seed"])),
        ("Device", facts.device),
        ("Versions", ", ".join(versions)),
        # When it was made, which may have been in an earlier run.
        ("Time", ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items() if value is not None)),
    ]
    return [row for row in rows if row[0] != "Time" or row[1]]


def _copy_tables(artifact: Artifact, folder: Path) -> None:
    """Every table, and the examples, which a comparison of runs shows again; none by half, which it could not read."""
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
    """What was linked to what."""
    facts = source.facts
    return f"{facts.classifier} linked to {facts.generator}: {facts.classes}"


def abstract(source: Source) -> str:
    """What was done, in two sentences, and that it shows nothing where it does not."""
    facts = source.facts
    means = f" ({LINKS_IN_WORDS[facts.link]})" if facts.link in LINKS_IN_WORDS else ""
    return (
        f"A link, {facts.link_label}{means}, maps the {facts.units} units of the penultimate layer of "
        f"{facts.classifier} to the {facts.w_dim}-dimensional latent space W of {facts.generator}, so that the "
        f"generator shows what the classifier represents. Classes: {listing([words(n) for n in facts.class_names])}. "
        f"{nothing_explained(source)}"
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


def drawing(source: Source) -> list[Picture]:
    """The schematic with the example that is kept nearest to the median; none without examples."""
    if not source.has("evaluation", "examples"):
        return []
    arrays = source.arrays("evaluation", "examples")
    image, cycled = arrays["image"], arrays["cycled"]
    if not len(image):
        return []
    error = ((image.astype(float) - cycled.astype(float)) ** 2).mean(axis=(1, 2, 3))
    chosen = int(np.argsort(error)[len(error) // 2])  # nothing is picked by hand
    caption = (
        f"What was run. A generated image I is read by the classifier; the link (red) takes the activations r back to "
        f"W, and the generator shows w̃ as Ĩ. Of the {len(image)} examples below, this one has the median pixel error."
    )
    figure = schematic(_wiring(source), image[chosen], cycled[chosen])
    return [Picture("schematic", figure, caption, "drawing")]


def _wiring(source: Source) -> Wiring:
    facts = source.facts
    detail = f"{facts.units} → {facts.w_dim}"
    if source.has("link", "fit"):
        detail += f", fitted to {source.json('link', 'fit')['samples']:,} pairs (w, r)"
    same = source.row("evaluation", "kept", "class", "all")
    return Wiring(
        generator=facts.generator.split(" (")[0],
        classifier=facts.classifier.split(" (")[0],
        link=facts.link_label,
        link_detail=detail,
        w_dim=facts.w_dim,
        units=facts.units,
        resolution=facts.resolution,
        classes=len(facts.class_names) if facts.conditional else 0,
        in_w=_beside(source, "mse_w", "the MSE"),
        in_image=_beside(source, "pixel_l2", "pixel L2"),
        class_kept="" if same is None else f"class kept: {share(same['kept'])}",
    )


def _beside(source: Source, metric: str, name: str) -> str:
    row = source.row("evaluation", "summary", "metric", metric)
    return "" if row is None else f"{times(row['ratio_random'])} {name}\nof random pairs"


@dataclass(frozen=True)
class Wiring:
    """The names and sizes that the schematic shows; the three findings are empty where they were not measured."""

    generator: str
    classifier: str
    link: str
    link_detail: str
    """A line under the link's name, for example `256 → 64, fitted to 6,000 pairs (w, r)`."""
    w_dim: int
    units: int
    resolution: int
    classes: int
    """Classes of the run; 0 where the generator draws the class itself."""
    in_w: str = ""
    in_image: str = ""
    class_kept: str = ""


@styled
def schematic(wiring: Wiring, image: np.ndarray, cycled: np.ndarray) -> Figure:
    """The loop z, c → w → I → r → w̃ → Ĩ with the link in red; `image`, `cycled` are `[h, w, 3]` uint8."""
    figure = Figure(figsize=(WIDE, _HEIGHT))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    _forward(axis, wiring)
    _pictures(axis, image, cycled, wiring)
    _back(axis, wiring)
    axis.set(xlim=(0, WIDE), ylim=(0, _HEIGHT))
    return figure


def _forward(axis: Axes, wiring: Wiring) -> None:
    _inputs(axis, wiring)
    _box(axis, (1.2, _TOP - 0.36), 0.95, 0.72, "mapping")
    _arrow(axis, (2.15, _TOP), (_W - 0.12, _TOP))
    for row, name in ((_TOP, r"$w$"), (_BOTTOM, r"$\tilde{w}$")):
        _vector(axis, (_W, row), name, INK if row == _TOP else LINK_RED, left=True)
        _arrow(axis, (_W + 0.12, row), (_GENERATOR[0], row))
        _arrow(axis, (_GENERATOR[1], row), (_IMAGE - 0.68, row))
    middle = (_TOP + _BOTTOM) / 2
    _funnel(axis, _GENERATOR, middle, (0.95, 1.58), ("generator", plain(wiring.generator)))
    _arrow(axis, (_IMAGE + 0.66, _TOP), (_CLASSIFIER[0], _TOP))
    _funnel(axis, _CLASSIFIER, _TOP, (0.8, 0.45), ("classifier", plain(wiring.classifier)))
    _arrow(axis, (_CLASSIFIER[1], _TOP), (_R - 0.12, _TOP))
    _vector(axis, (_R, _TOP), r"$r$", INK, left=False)
    axis.text(_W, _TOP + 0.82, f"{wiring.w_dim} dimensions", **_small())
    axis.text(_R, _TOP + 0.82, f"{wiring.units} units", **_small())
    axis.text(_R + 0.28, _TOP - 0.3, "penultimate\nlayer", **_small("left"))


def _inputs(axis: Axes, wiring: Wiring) -> None:
    noise, classes = ("$z$", "noise"), ("$c$", f"{wiring.classes} classes" if wiring.classes > 1 else "class")
    rows = [(noise, _TOP + 0.42), (classes, _TOP - 0.42)] if wiring.classes else [(noise, _TOP)]
    for (symbol, meaning), height in rows:
        axis.text(0.42, height + 0.07, symbol, **_centre(17))
        axis.text(0.42, height - 0.17, meaning, **_small())
        _arrow(axis, (0.62, height + 0.02), (1.2, _TOP + (height - _TOP) * 0.45))


def _pictures(axis: Axes, image: np.ndarray, cycled: np.ndarray, wiring: Wiring) -> None:
    half = 0.64
    for row, pixels, name in ((_TOP, image, r"$I$"), (_BOTTOM, cycled, r"$\tilde{I}$")):
        picture(axis, pixels, (_IMAGE - half, _IMAGE + half, row - half, row + half))
        corner, style = (_IMAGE - half, row - half), {"fill": False, "edgecolor": INK, "linewidth": 0.8}
        axis.add_patch(Rectangle(corner, 2 * half, 2 * half, **style))
        axis.text(_IMAGE + half + 0.17, row - half + 0.12, name, **_centre(17))
    axis.text(_IMAGE, _TOP + half + 0.16, f"{wiring.resolution} × {wiring.resolution} pixels", **_small())
    _compared(axis, (_W, _TOP - 0.7), (_W, _BOTTOM + 0.7), wiring.in_w, left=True)
    _compared(axis, (_IMAGE, _TOP - half), (_IMAGE, _BOTTOM + half), wiring.in_image, left=False)
    if wiring.class_kept:
        start, end = (_IMAGE + half + 0.06, _BOTTOM), (sum(_CLASSIFIER) / 2, _TOP - 0.66)
        dotted = {"color": MUTED, "linewidth": 1.2, "linestyle": (0, (1.5, 2))}
        axis.plot([start[0], end[0], end[0]], [start[1], start[1], end[1] - 0.1], **dotted)
        _arrow(axis, (end[0], end[1] - 0.16), end, MUTED)
        axis.text(end[0] + 0.12, (_TOP + _BOTTOM) / 2 - 0.3, wiring.class_kept, **_small("left"))


def _compared(axis: Axes, top: Point, bottom: Point, finding: str, left: bool) -> None:
    if finding:
        axis.add_patch(FancyArrowPatch(top, bottom, arrowstyle="<->", mutation_scale=9, color=MUTED, linewidth=1))
        x = top[0] + (-0.12 if left else 0.12)
        axis.text(x, (top[1] + bottom[1]) / 2, finding, linespacing=1.3, **_small("right" if left else "left"))


def _back(axis: Axes, wiring: Wiring) -> None:
    """The red way from r down, back to the left, and up into w̃."""
    axis.plot(
        [_R, _R, _W, _W], [_TOP - 0.72, _LANE, _LANE, _BOTTOM - 0.85], color=LINK_RED, linewidth=2.6,
        solid_joinstyle="round", zorder=1,
    )  # fmt: skip
    _arrow(axis, (_W, _BOTTOM - 0.9), (_W, _BOTTOM - 0.66), LINK_RED, width=2.6)
    middle, width = (_W + _R) / 2, 3.9
    _box(axis, (middle - width / 2, _LANE - 0.31), width, 0.62, "", edge=LINK_RED, face="white")
    axis.text(middle, _LANE + 0.11, f"link: {plain(wiring.link)}", color=LINK_RED, weight="bold", **_centre(10.5))
    axis.text(middle, _LANE - 0.13, plain(wiring.link_detail), color=MUTED, **_centre(8.5))


def _vector(axis: Axes, centre: Point, name: str, colour: str, left: bool) -> None:
    x, y = centre
    cells, width, height = 9, 0.16, 1.26
    for k in range(cells):
        low = y - height / 2 + k * height / cells
        axis.add_patch(Rectangle((x - width / 2, low), width, height / cells, facecolor=PANEL, edgecolor=colour))
    axis.text(x + (-0.26 if left else 0.28), y + 0.42, name, color=colour, **_centre(18))


def _funnel(axis: Axes, xs: Point, y: float, halves: Point, lines: tuple[str, str]) -> None:
    """A trapezoid from half height `halves[0]` at the left to `halves[1]` at the right, with a role and a name."""
    (x0, x1), (h0, h1) = xs, halves
    corners = [(x0, y - h0), (x1, y - h1), (x1, y + h1), (x0, y + h0)]
    axis.add_patch(Polygon(corners, facecolor=PANEL, edgecolor=INK, linewidth=1, joinstyle="round"))
    axis.text((x0 + x1) / 2, y + 0.12, lines[1], weight="bold", wrap=True, **_centre(9.5))
    axis.text((x0 + x1) / 2, y - 0.12, lines[0], color=MUTED, **_centre(8.5))


def _box(axis: Axes, corner: Point, width: float, height: float, text: str, edge: str = INK, face: str = PANEL) -> None:
    shape = FancyBboxPatch(
        (corner[0] + 0.06, corner[1] + 0.06), width - 0.12, height - 0.12, boxstyle="round,pad=0.06", facecolor=face,
        edgecolor=edge, linewidth=1.2, zorder=2,
    )  # fmt: skip
    axis.add_patch(shape)
    axis.text(corner[0] + width / 2, corner[1] + height / 2, text, **_centre(9.5))


def _arrow(axis: Axes, start: Point, end: Point, colour: str = INK, width: float = 1.1) -> None:
    shape = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=7 + 3 * width, shrinkA=1, shrinkB=1, color=colour,
        linewidth=width, joinstyle="miter",
    )  # fmt: skip
    axis.add_patch(shape)


def _centre(size: float, side: str = "center") -> dict[str, Any]:
    return {"size": size, "ha": side, "va": "center"}


def _small(side: str = "center") -> dict[str, Any]:
    return {"color": MUTED, **_centre(8.5, side)}
