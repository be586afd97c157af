"""The top of a run's page: title, abstract, headline numbers, schematic."""

from __future__ import annotations

import numpy as np

from lis.report.figures.schematic import Wiring, schematic
from lis.report.frames import column, records
from lis.report.html import Number
from lis.report.labels import LINKS_IN_WORDS, listing, metric_label, number, share, times, words
from lis.report.sections import Picture
from lis.report.source import Source

_HEADLINE = ("mse_w", "pixel_l2", "lpips", "moco")


def title(source: Source) -> str:
    """What was linked to what."""
    facts = source.facts
    return f"{facts.classifier} linked to {facts.generator}: {facts.classes}"


def abstract(source: Source) -> str:
    """What was done, in two sentences."""
    facts = source.facts
    means = f" ({LINKS_IN_WORDS[facts.link]})" if facts.link in LINKS_IN_WORDS else ""
    return (
        f"A link, {facts.link_label}{means}, maps the {facts.units} units of the penultimate layer of "
        f"{facts.classifier} to the {facts.w_dim}-dimensional latent space W of {facts.generator}, so that the "
        f"generator shows what the classifier represents. Classes: {listing([words(n) for n in facts.class_names])}."
    )


def headline(source: Source) -> list[Number]:
    """The numbers that say whether the link works, each beside its baseline."""
    return [*_distances(source), *_class_kept(source), *_factors(source), *_similarity(source)]


def _distances(source: Source) -> list[Number]:
    if not source.has("evaluation", "summary"):
        return []
    rows = {row["metric"]: row for row in records(source.table("evaluation", "summary"))}
    return [
        Number(
            metric_label(metric),
            times(rows[metric]["ratio_random"]),
            f"{number(rows[metric]['cycle'])} after the cycle, {number(rows[metric]['random'])} between random pairs",
        )
        for metric in _HEADLINE
        if metric in rows
    ]


def _class_kept(source: Source) -> list[Number]:
    row = source.row("evaluation", "kept", "class", "all")
    if row is None:
        return []
    detail = f"[{share(row['low'])}, {share(row['high'])}] of {int(row['n']):,} cycled images"
    return [Number("Class kept", share(row["kept"]), detail)]


def _factors(source: Source) -> list[Number]:
    if not source.has("evaluation", "factors"):
        return []
    table = source.table("evaluation", "factors")
    r2, within = (number(column(table, name).mean(), 2) for name in ("r2", "r2_within"))
    return [Number("True factors", f"R² {r2}", f"{within} within classes")]


def _similarity(source: Source) -> list[Number]:
    if not source.has("similarity", "similarity"):
        return []
    table = source.table("similarity", "similarity")
    mean = {name: number(column(table, name).mean(), 2) for name in table.columns if name != "repetition"}
    detail = f"of distances {mean['rsa_dissimilarity']}; ARI {mean['ari_r']} in R, {mean['ari_w']} in W"
    return [Number("RSA of R and W", mean["rsa_similarity"], detail)]


def drawing(source: Source) -> list[Picture]:
    """The schematic with the example that is kept nearest to the median; none without examples."""
    if not source.has("evaluation", "examples"):
        return []
    tensors = source.tensors("evaluation", "examples")
    image, cycled = (tensors[name].permute(0, 2, 3, 1).numpy() for name in ("image", "cycled"))
    if not len(image):
        return []
    chosen = _typical(image, cycled)
    caption = (
        f"What was run. A generated image I is read by the classifier; the link (red) takes the activations r back to "
        f"W, and the generator shows w̃ as Ĩ. Of the {len(image)} examples below, this one has the median pixel error."
    )
    figure = schematic(_wiring(source), image[chosen], cycled[chosen])
    return [Picture("schematic", figure, caption, "drawing")]


def _typical(image: np.ndarray, cycled: np.ndarray) -> int:
    """The example with the median pixel error, so that nothing is picked by hand."""
    error = ((image.astype(float) - cycled.astype(float)) ** 2).mean(axis=(1, 2, 3))
    return int(np.argsort(error)[len(error) // 2])


def _wiring(source: Source) -> Wiring:
    facts = source.facts
    detail = f"{facts.units} → {facts.w_dim}"
    if source.has("link", "fit"):
        detail += f", fitted to {source.json('link', 'fit')['samples']:,} pairs (w, r)"
    kept = source.row("evaluation", "kept", "class", "all")
    return Wiring(
        generator=_short(facts.generator),
        classifier=_short(facts.classifier),
        link=facts.link_label,
        link_detail=detail,
        w_dim=facts.w_dim,
        units=facts.units,
        resolution=facts.resolution,
        classes=len(facts.class_names) if facts.conditional else 0,
        in_w=_beside(source, "mse_w", "the MSE"),
        in_image=_beside(source, "pixel_l2", "the pixel L2"),
        kept="" if kept is None else f"class kept: {share(kept['kept'])}",
    )


def _beside(source: Source, metric: str, name: str) -> str:
    row = source.row("evaluation", "summary", "metric", metric)
    return "" if row is None else f"{times(row['ratio_random'])} {name}\nof random pairs"


def _short(component: str) -> str:
    """A component's class without its settings."""
    return component.split(" (")[0]
