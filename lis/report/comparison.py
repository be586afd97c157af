"""The page of a sweep: what varied between its runs, and how each metric came out (Fig. S1–S3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import combinations
from math import isnan, nan
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lis
from lis.folder import staged
from lis.report.findings import findings, warnings
from lis.report.html import KICKER, Attempts, Number, Rendered, render, require_whole, show_all
from lis.report.jobs import KINDS, Job, load_jobs
from lis.report.marks import violin
from lis.report.outcomes import ENDED, Outcome, run_row, unlinked, write_sweep
from lis.report.section import Picture, Section, Table, makers, section
from lis.report.stored import COMPARISON, stored_sections
from lis.report.style import INK, MUTED, WIDE, link_colour, plain, sheet
from lis.report.tables import column as column_of
from lis.report.tables import distribution, where
from lis.report.wording import link_label, metric_label, number, share, times, wrapped
from lis.store import Artifact, Store
from lis.store.inventory import SWEEP

_RATIOS = tuple(f"{metric}/ratio_random" for metric in ("mse_w", "pixel_l2", "lpips", "moco", "features"))
_TABLES = (*_RATIOS, "class_kept", "r2_within")
_ONE_SETTING = "Distances of the cycle as a multiple of those of random pairs; R² is the mean over the true factors."
_LABELS = {
    "class_kept": ("Class kept", "Class kept: share of cycled images that keep their class."),
    "r2_within": ("R² within classes", "R² of the true factors within classes, mean over factors."),
}
"""What numbers whose larger values are better are called, and what they are."""
_MULTIPLE = "{} of the cycle, as a multiple of that of random pairs."
BASELINES = {"random": "-", "within-class": (0, (1.5, 1.5))}
"""Line styles of the means of random pairs."""
_BASELINE_NAMES = {"random": "mean of random pairs", "within-class": "mean of random pairs of the same class"}
_RANGE = 25.0
"""From this ratio of the widest violin's end to the smallest mean on, a linear scale would hide the small ones."""
_LETTER, _SMALL_LETTER = 0.085, 0.075
"""Widths in inches of a letter of a title and of a tick label."""
_CLASSIFIERS_CAPTION = (
    "Dead: units that do not vary. Pairs per unit: training pairs of the link, over units. Accuracy: of a network on "
    "drawn figures that it was not trained on, of a probe on new samples; a dash where it was not measured. Accepted: "
    "share of the generator's test samples that were taken."
)


def write_comparison(
    jobs: Sequence[Path], out: Path, outcomes: Sequence[Outcome] | None = None, store: Store | None = None
) -> Path:
    """Write `report.html`, `sweep.json` and `figures/*` (PNG, SVG, CSV) of a sweep; tables of its runs stay with each.

    Args:
        jobs: folders of its runs, each with what `write_report` left there; a folder without is named on the page.
        out: the sweep's folder, made when needed.
        outcomes: how each job ended, also those that have left nothing; None: as far as `jobs` are known.
        store: holds the figures of the same reports, which are not drawn again then; None: they are drawn.

    Raises:
        ValueError: no folder holds a result.
        ReportError: a section, or the top or tail of the page failed; all else is written, and the page names it with
            its error.
    """
    loaded, missing = load_jobs(jobs)
    out.mkdir(parents=True, exist_ok=True)
    with staged(out) as draft:
        tried = Attempts()
        title = tried("Title", lambda: _title(loaded), KICKER)
        abstract = tried("Abstract", lambda: _abstract(loaded), "")
        numbers = tried("Headline", lambda: _headline(loaded), [])
        warned = tried("Warnings", lambda: warnings(loaded, "comparison", tried), [])
        said = tried("Findings", lambda: findings(loaded, "comparison", tried), [])
        varied, tell = {job.folder: list(job.values.values()) for job in loaded}, partial(_numbers, loaded)
        ended = [Outcome(folder) for folder in varied] if outcomes is None else outcomes
        rows = {one: partial(run_row, one, varied, tell, out) for one in ended}
        runs = [tried(f"Run {one.folder.name}", row, unlinked(one)) for one, row in rows.items()]
        rendered, held = _sections(loaded, draft / "figures", store)
        write_sweep(ended, {} if held is None else {COMPARISON: held.key}, draft / SWEEP)
        sections = [*tried.failed, *rendered]
        page = render(
            "comparison.html.j2",
            draft / "report.html",
            sections=sections,
            title=title,
            abstract=abstract,
            warnings=warned,
            findings=said,
            numbers=numbers,
            runs=runs,
            kicker=f"{KICKER}: comparison",
            columns=[*loaded[0].values, *ENDED, *map(_key_label, _keys(loaded))],
            missing=missing,
            footer=f"lis {lis.__version__}",
        )
    page = out / page.name
    require_whole(sections, page)
    return page


def _sections(jobs: Sequence[Job], folder: Path, store: Store | None) -> tuple[list[Rendered], Artifact | None]:
    """The sections with their figures, and where the store holds them; drawn where not every report is in a store."""
    show = partial(show_all, makers(jobs, "comparison"))
    reports = [job.report for job in jobs if job.report is not None]
    if store is None or len(reports) < len(jobs):
        return show(folder), None
    return stored_sections(store, reports, folder, show)


def _title(jobs: Sequence[Job]) -> str:
    links, groups = _links(jobs), [group for group in reversed(list(jobs[0].values)) if group != "link"]
    first = f"{len(links)} links" if len(links) > 1 else link_label(links[0])
    counts = {group: len({job.values[group] for job in jobs}) for group in groups}
    return " × ".join([first, *(f"{count} {KINDS.get(group, 'settings')}" for group, count in counts.items())])


def _abstract(jobs: Sequence[Job]) -> str:
    fixed = {group: value for group, value in jobs[0].labels.items() if len({job.labels[group] for job in jobs}) == 1}
    names = {"gan": "Generator", "classifier": "Classifier", "classes": "Classes"}
    common = "; ".join(f"{names[group]}: {value}" for group, value in fixed.items() if group in names)
    varied = f"{len(jobs)} runs. Links: {', '.join(link_label(link) for link in _links(jobs))}."
    for group in (group for group in jobs[0].values if group != "link"):
        values = dict.fromkeys(job.values[group] for job in jobs)
        varied += f" {KINDS.get(group, 'settings').capitalize()}: {'; '.join(values)}."
    return f"{varied} {common}." if common else varied


def _headline(jobs: Sequence[Job]) -> list[Number]:
    """The span of each main number over the runs, and the run that is best."""
    result = []
    for key in _keys(jobs):
        ranked = _ranked(jobs, key)
        best = ranked[-1 if key in _LABELS else 0]
        low, high = (_cell(key, job.metrics[key]) for job in (ranked[0], ranked[-1]))
        span = low if low == high else f"{low.rstrip('× %')}–{high}"
        of = "of random pairs; " if key.endswith("ratio_random") else ""
        result.append(Number(_key_label(key), span, f"{of}best: {best.name}"))
    return result


@section(100, page="comparison")
def numbers(jobs: Sequence[Job]) -> Section | None:
    """A table per number, settings down and links across; one table of all numbers where only links varied."""
    keys, settings = _keys(jobs), _columns(jobs)
    if not keys:
        return None
    captions = {key: _LABELS[key][1] if key in _LABELS else _MULTIPLE.format(_key_label(key)) for key in keys}
    tables = [_matrix(jobs, captions[key], [(setting, key, setting) for setting in settings]) for key in keys]
    if len(settings) == 1:
        tables = [_matrix(jobs, _ONE_SETTING, [(_key_label(key), key, settings[0]) for key in keys])]
    return Section("Numbers", "", tables=tables, finding=_span(jobs))


def _span(jobs: Sequence[Job]) -> str:
    """Between which runs the first number lies."""
    key = _keys(jobs)[0]
    ranked = _ranked(jobs, key)
    first, last = ranked[0], ranked[-1]
    low, high = (_cell(key, job.metrics[key]) for job in (first, last))
    of = " that of random pairs" if key.endswith("ratio_random") else ""
    if first is last:
        return f"{_key_label(key)} is {low}{of}"
    return f"{_key_label(key)} lies between {low} ({first.name}) and {high} ({last.name}){of}"


def _ranked(jobs: Sequence[Job], key: str) -> list[Job]:
    """The runs that have a number, the smallest first."""
    return sorted((job for job in jobs if key in job.metrics), key=lambda job: job.metrics[key])


def _matrix(jobs: Sequence[Job], caption: str, lines: Sequence[tuple[str, str, str]]) -> Table:
    """Links across, the best of each line in bold; a line is its name, a key of the metrics, and a setting."""
    links, rows, best = _links(jobs), [], set()
    for index, (name, key, setting) in enumerate(lines):
        result = {job.link: job.metrics[key] for job in jobs if job.column == setting and key in job.metrics}
        rows.append([name, *(_precise(key, result.get(link, np.nan)) for link in links)])
        if len(result) > 1:
            pick = max if key in _LABELS else min
            best.add((index, 1 + links.index(pick(result, key=lambda link: result[link]))))
    return Table(caption, ["", *(link_label(link) for link in links)], rows, frozenset(best))


@section(200, page="comparison")
def distributions(jobs: Sequence[Job]) -> Section | None:
    """One figure per value of the outer settings."""
    with_samples = [job for job in jobs if job.samples is not None]
    if not with_samples:
        return None
    pictures = []
    for index, outer in enumerate(dict.fromkeys(job.outer for job in with_samples)):
        group = [job for job in with_samples if job.outer == outer]
        frames = [job.samples.assign(link=job.link, column=job.inner) for job in group if job.samples is not None]
        inner = list(dict.fromkeys(job.inner for job in group))
        links = _links(group)
        # Another classifier has other units, in number and in scale.
        subset = ("features",) if len({job.labels["classifier"] for job in group}) > 1 else ()
        table = pd.concat(frames)
        figure = comparison(table, links, inner, {link: link_label(link) for link in links}, subset)
        caption = (
            f"{outer + ': ' if outer else ''}distance after the cycle per link. Bars are quartiles, dots means; lines "
            f"are the means of random pairs (solid) and of random pairs of the same class (dotted)."
            f"{' Distances in R have a scale of their own for each classifier.' if subset else ''}"
        )
        data = distribution(table, ["column", "link", "metric", "pairing"], "value")
        name, caption = f"comparison-{index + 1}", caption[0].upper() + caption[1:]
        pictures.append(Picture(name, figure, caption, data=data, alt=_described(data)))
    return Section("Distributions", "", pictures, finding=_overlap(with_samples))


def _described(data: pd.DataFrame) -> str:
    """The ends of the mean distance after the cycle over settings and links, of each metric, beside random pairs."""
    told = []
    for metric, rows in data.groupby("metric", sort=False):
        cycle, random = (column_of(where(rows, pairing=pairing), "mean") for pairing in ("cycle", "random"))
        beside = f", random pairs {number(random.mean())}" if len(random) else ""
        told.append(f"{metric_label(str(metric))} {number(cycle.min())} to {number(cycle.max())}{beside}")
    return f"Mean distance after the cycle, over links and settings: {'; '.join(told)}."


def _overlap(jobs: Sequence[Job]) -> str:
    """How far links of one setting differ from each other, or settings where there is one link."""
    key = next((key for key in _keys(jobs) if key.endswith("ratio_random")), "")
    several = len(_links(jobs)) > 1
    both = combinations([job for job in jobs if key in job.metrics], 2)
    gaps = [abs(a.metrics[key] - b.metrics[key]) for a, b in both if not several or a.column == b.column]
    if not gaps:
        return ""
    pair = "On the same setting, two links" if several else "Two settings"
    return f"{pair} differ in {_key_label(key)} by at most {number(max(gaps), 2)} of what random pairs give"


def _numbers(jobs: Sequence[Job], metrics: Mapping[str, float]) -> list[str]:
    """The main numbers of a run as the list of runs holds them."""
    return [_cell(key, metrics[key]) if key in metrics else "–" for key in _keys(jobs)]


def _links(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(job.link for job in jobs))


def _columns(jobs: Sequence[Job]) -> list[str]:
    """All settings, those with the same outer value beside each other."""
    outer = list(dict.fromkeys(job.outer for job in jobs))
    return list(dict.fromkeys(job.column for job in sorted(jobs, key=lambda job: outer.index(job.outer))))


def _keys(jobs: Sequence[Job]) -> list[str]:
    return [key for key in _TABLES if any(key in job.metrics for job in jobs)]


def _key_label(key: str) -> str:
    return _LABELS.get(key, [metric_label(key.split("/")[0])])[0]


def _cell(key: str, value: float) -> str:
    return {"class_kept": share(value), "r2_within": number(value, 2)}.get(key, times(value))


def _precise(key: str, value: float) -> str:
    """As `_cell`, with the digits that tell similar links apart."""
    precise = {"class_kept": f"{100 * value:.1f} %", "r2_within": f"{value:.2f}".replace("-", "−")}
    return precise.get(key, f"{value:.3f}×") if np.isfinite(value) else "–"


def comparison(
    samples: pd.DataFrame,
    links: Sequence[str],
    columns: Sequence[str],
    labels: Mapping[str, str],
    unshared: Collection[str] = (),
) -> Figure:
    """Violins of the cycle's distances, and the means of random pairs: over all (solid) and of a class (dotted).

    Args:
        samples: long table with `link`, `column`, `metric`, `pairing`, `value`.
        links: links from left to right.
        columns: values of `column` from left to right.
        labels: link to the name that is written.
        unshared: metrics that cannot be compared between columns: each of their panels has a scale of its own.
    """
    metrics = list(dict.fromkeys(samples["metric"]))
    width = WIDE if len(columns) > 1 else 0.55 * WIDE
    figure, axes = sheet(width, 0.8 + 1.75 * len(metrics), len(metrics), len(columns), sharex=True)
    for row, metric in zip(axes, metrics, strict=True):
        _row(row, where(samples, metric=metric), links, columns, shared=metric not in unshared)
        row[0].set_ylabel(plain(metric_label(metric)), weight="bold")
    panel = (width - 0.35) / len(columns) - 0.25  # without the numbers beside it
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(wrapped(column, int(panel / _LETTER)), loc="center")
    _name_links(axes[-1], [plain(labels[link]) for link in links], panel)
    for pairing, style in BASELINES.items():
        axes[0, 0].plot([], [], color=MUTED, linewidth=1, linestyle=style, label=_BASELINE_NAMES[pairing])
    figure.legend(loc="outside lower center", ncols=len(BASELINES))
    return figure


def _row(axes: np.ndarray, part: pd.DataFrame, links: Sequence[str], columns: Sequence[str], *, shared: bool) -> None:
    """The panels of one metric, on one scale where `shared`."""
    groups = [column_of(group, "value") for _, group in where(part, pairing="cycle").groupby(["link", "column"])]
    widest, smallest = max(np.quantile(values, 0.995) for values in groups), min(values.min() for values in groups)
    log = bool(smallest > 0 and widest > _RANGE * min(values.mean() for values in groups))
    for axis, column in zip(axes, columns, strict=True):
        subset = where(part, column=column)
        _panel(axis, subset, links, log)
        _scale(axis, part if shared or subset.empty else subset, log)
        axis.tick_params(labelleft=axis is axes[0] or not shared)


def _panel(axis: Axes, part: pd.DataFrame, links: Sequence[str], log: bool) -> None:
    for at, link in enumerate(links):
        values = column_of(where(part, link=link, pairing="cycle"), "value")
        if len(values):
            violin(axis, values, at, link_colour(link, at), log=log, width=min(0.8, 0.2 + 0.15 * len(links)))
    for pairing, style in BASELINES.items():
        values = column_of(where(part, pairing=pairing), "value")
        if len(values):
            axis.axhline(values.mean(), color=MUTED, linewidth=1, linestyle=style)
    axis.tick_params(axis="x", length=0, labelcolor=INK)
    axis.grid(True, axis="y")


def _scale(axis: Axes, part: pd.DataFrame, log: bool) -> None:
    groups = [where(part, column=name, pairing=pairing) for name in set(part["column"]) for pairing in BASELINES]
    means = [values.mean() for group in groups if len(values := column_of(group, "value"))]
    cycles = [rows for _, rows in where(part, pairing="cycle").groupby(["column", "link"])]
    ends = np.stack([np.quantile(column_of(rows, "value"), [0.005, 0.995]) for rows in cycles])
    low, high = ends.min(), max([ends.max(), *means])
    axis.set_yscale("log" if log else "linear")
    axis.set_ylim((low / 1.3, high * 1.3) if log else (min(0.0, low), high * 1.08))


def _name_links(axes: np.ndarray, names: Sequence[str], panel: float) -> None:
    """Links under the lowest row; slanted where they would touch. `panel` is the width of one in inches."""
    axes[0].set_xticks(range(len(names)), names)
    axes[0].set_xlim(-0.6, len(names) - 0.4)
    if max(len(name) for name in names) * _SMALL_LETTER > panel / (len(names) + 0.2):
        for label in [label for axis in axes for label in axis.get_xticklabels()]:
            label.set(rotation=30, ha="right", rotation_mode="anchor")


@section(500, page="comparison")
def classifiers(jobs: Sequence[Job]) -> Section | None:
    """A row per classifier, and per value of the other settings; None where the classifier did not vary."""
    if "classifier" not in jobs[0].values:
        return None
    first = {job.column: job for job in reversed(jobs)}
    selected = [first[setting] for setting in dict.fromkeys(job.column for job in jobs)]
    columns = ["", "units", "dead", "pairs per unit", "accuracy", "accepted"]
    table = Table(_CLASSIFIERS_CAPTION, columns, [_classifier(job) for job in selected])
    return Section("Classifiers", "", tables=[table], finding=_widths(selected))


def accepted(job: Job) -> float:
    """Accepted test samples over all that were drawn for them; not a number where none were."""
    rates = [rate for key, rate in job.metrics.items() if key.startswith("acceptance/test/")]
    # Every class has the same number of accepted samples, so that the classes' draws are as their inverse rates.
    return len(rates) / sum(1 / rate for rate in rates) if rates else float("nan")


def _widths(jobs: Sequence[Job]) -> str:
    """Between which classifiers the number of units lies."""
    known = sorted(((job.units, job.inner) for job in jobs if job.units is not None), key=lambda pair: pair[0])
    if not known:
        return ""
    if known[0][0] == known[-1][0]:
        return f"Each penultimate layer has {known[0][0]:,} units"
    ends = [f"{units:,} ({name})" for units, name in (known[0], known[-1])]
    return f"Penultimate layers have between {ends[0]} and {ends[1]} units"


def _classifier(job: Job) -> list[str]:
    """Units, those that never vary, training pairs of the link for each, accuracy and acceptance."""
    units, (dead, pairs) = job.units or nan, (job.metrics.get(f"link/{key}", nan) for key in ("dead", "samples"))
    # A probe replaces the network's own head.
    right = job.metrics.get("probe/accuracy", job.metrics.get("classifier/accuracy", nan))
    counts = ["–" if isnan(count) else f"{count:,.0f}" for count in (units, dead)]
    return [job.column, *counts, number(pairs / units, 2), share(right), share(accepted(job))]
