"""What the stages of this package will do: tuned images, statistics of units and their controls, exact pictures."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lis.context import Context
from lis.segmentation.work import looked
from lis.workload import (
    CLASSIFIER,
    FLOAT,
    GENERATOR,
    Blocks,
    Expected,
    Load,
    Operation,
    Workload,
    images,
    repeated,
    style_codes,
)

if TYPE_CHECKING:
    from lis.store import Draft

LARGEST = 512
"""Units and dimensions of w at most of a forward model that is timed."""
_STEPS = "tuning.along=closed: at most as many passes as are counted, a pass for each derivative"
_FILES = "images: of a file that is no picture that can be used there is none"
_SINGLE = "planted: at most as many units of a single factor are moved as are counted"
_GROUP = 64
"""Units that statistics are timed for at once: those of fewer say little about those of many."""
_FEW = 2
"""Random directions beside the units that are timed."""


def tuned_units(ctx: Context) -> int:
    """Units that are tuned, if all are live."""
    return min(ctx.config.tuning.units or ctx.classifier.units, ctx.classifier.units)


def tuned_samples(ctx: Context) -> int:
    """Samples of all classes that units are tuned in."""
    return ctx.config.tuning.seeds * len(ctx.class_names)


def closed_passes(ctx: Context, units: int, samples: int, values: int) -> int:
    """Images that `tuning.along=closed` takes besides those of its results; 0 of other ways."""
    if ctx.config.tuning.along != "closed":
        return 0
    from lis.units.closed import SHARES, STEPS

    jacobian = 1 + min(ctx.generator.w_dim, ctx.classifier.units)
    further = STEPS * (jacobian + 1 + 2 * len(SHARES))
    return samples * (jacobian + units * (values * further - jacobian))


def directions_work(ctx: Context, expected: Expected) -> Workload:
    """Of the forward model, and of what arrives with each penalty that is tried."""
    from lis.units.directions import PENALTIES, SAMPLES, UNITS

    config, known, w_dim = ctx.config.tuning, ctx.classifier.units, ctx.generator.w_dim
    n, scale = ctx.config.pairs.train * len(ctx.class_names), 1.0
    for width in (known, w_dim):
        scale *= width / min(width, LARGEST)
    tried = 0
    if config.along == "faithful" and config.penalty is None:
        tried = 2 * len(PENALTIES) * min(UNITS, known) * min(SAMPLES, n)
    loads = (Load(FORWARD, n, scale=scale), *images(ctx, tried, shared=False))
    return Workload(loads, size=2 * 2 * FLOAT * known * w_dim)


def _forward(ctx: Context) -> Callable[[int], object]:
    """Forward models of random pairs, some more for each class than are asked for."""
    from lis.linking.forward import Forward
    from lis.linking.scatter import FOLDS

    units, w_dim, classes = min(ctx.classifier.units, LARGEST), min(ctx.generator.w_dim, LARGEST), len(ctx.class_names)

    def run(count: int) -> None:
        numbers = torch.Generator().manual_seed(0)
        labels = torch.arange(classes).repeat_interleave(count // classes + 2 * FOLDS)
        w = torch.randn(len(labels), w_dim, generator=numbers)
        r = w @ torch.randn(w_dim, units, generator=numbers) + torch.randn(len(w), units, generator=numbers)
        Forward.fit(r, w, labels, r.double().std(0), torch.ones(units, dtype=torch.bool))

    return run


def tuning_work(ctx: Context, expected: Expected) -> Workload:
    """Of every unit and sample an image per step, of every random direction one per length to both sides."""
    config, units, samples = ctx.config.tuning, tuned_units(ctx), tuned_samples(ctx)
    lengths = 2 * config.control_lengths
    shown = samples * (1 + units * config.steps + config.control_directions * lengths)
    read, arrived = _result_bytes(ctx), units * samples * 6 * FLOAT
    encoded = config.control_directions * lengths * len(ctx.class_names) * ctx.classifier.units
    blocks = len(ctx.class_names) * math.ceil(config.seeds / config.seed_block)
    groups = [math.ceil(n / config.unit_block) for n in (1, units, config.control_directions)]
    passes = closed_passes(ctx, units, samples, config.steps)
    return Workload(
        (*looked(ctx, shown), *images(ctx, passes)),
        size=shown * read + arrived + 2 * encoded,
        shards=(Blocks("tuning-shard", blocks * sum(groups), shown * read + arrived + 2 * FLOAT * encoded),),
        notes=(_STEPS,) if passes else (),
    )


def _result_bytes(ctx: Context) -> int:
    """Bytes that are read off an image: measures, answers, the class, and how far w is."""
    return FLOAT * (5 * len(ctx.config.classes.labels) + len(ctx.class_names) + 3)


def statistics_work(ctx: Context, expected: Expected) -> Workload:
    """Of the tables of all units, and of all random directions beside each."""
    units = tuned_units(ctx)
    rows = units * (5 * len(ctx.config.classes.labels) + 4 * len(ctx.class_names))
    return Workload((Load(STATISTICS, units / _GROUP), controls(ctx)), size=rows * 60)


def controls(ctx: Context) -> Load:
    """All random directions beside every tuned unit."""
    units = tuned_units(ctx)
    return Load(CONTROLS, ctx.config.tuning.control_directions, scale=units / min(units, _GROUP))


def _statistics(ctx: Context) -> Callable[[int], object]:
    from lis.stage import REGISTRY
    from lis.store import Recipe, Store

    stage = REGISTRY["unit_statistics"]
    config = getattr(ctx.config, stage.group)

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            source = store.make(Recipe("tuning", 1, {}), partial(_random_tuning, ctx, count * _GROUP, _FEW))
            store.make(Recipe("statistics", 1, {}), lambda draft: stage.build(ctx, config, source, draft))

    return run


def _controls(ctx: Context) -> Callable[[int], object]:
    import numpy as np

    from lis.store import Recipe, Store
    from lis.units.controls import Controls
    from lis.units.tuned import Tuned

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            make = partial(_random_tuning, ctx, min(tuned_units(ctx), _GROUP), count)
            source = Store(Path(folder)).make(Recipe("tuning", 1, {}), make)
            tuned = Tuned.of(source)
            Controls.of(source, np.random.default_rng(0)).null(tuned.unit, tuned.position[..., [0, -1]])

    return run


def _random_tuning(ctx: Context, units: int, directions: int, draft: Draft) -> None:
    """What the stage "tuning" writes, of random numbers, as far as statistics read it."""
    from lis.quantify.measures import MEASURES

    config, names = ctx.config.tuning, list(ctx.class_names)
    labels, samples = list(ctx.config.classes.labels), tuned_samples(ctx)
    numbers = torch.Generator().manual_seed(0)
    address = {
        "class_index": torch.arange(len(names)).repeat_interleave(config.seeds),
        "sample_index": torch.arange(samples),
    }

    def read(count: int, steps: int) -> dict[str, Any]:
        size = (count, samples, steps)
        return {
            "measures": 0.1 + torch.rand(*size, len(labels), len(MEASURES), generator=numbers),
            "probability": torch.rand(*size, len(names), generator=numbers),
            "prediction": torch.zeros(size, dtype=torch.int64),
            "position": torch.linspace(-1, 1, steps) * (0.5 + torch.rand(count, samples, 1, generator=numbers)),
        }

    told = {
        name: torch.rand(units, samples, generator=numbers)
        for name in ("reencoded_share", "own", "others", "more", "beyond", "step_norm")
    }
    moved = {"unit": torch.arange(units), "value": torch.rand(units, config.steps, generator=numbers)}
    draft.tensors("tuning", read(units, config.steps) | told | moved | address)
    lengths = 2 * config.control_lengths + 1
    encoded = torch.rand(directions, len(names), lengths, max(units, ctx.classifier.units), generator=numbers).half()
    draft.tensors("control", read(directions, lengths) | {"reencoded": encoded} | address)
    perturbed = {"tuning": [str(k) for k in range(units)], "control": [f"random {k}" for k in range(directions)]}
    draft.json("facts", {"names": perturbed, "labels": labels, "measures": list(MEASURES), "class_names": names})


def pictures_work(ctx: Context, expected: Expected) -> Workload:
    """Of all units that figures can show, each in a sample of its own; some are the same."""
    most, labels, classes = ctx.config.unit_statistics.examples, len(ctx.config.classes.labels), len(ctx.class_names)
    shape, outline, surface, relevant = 2, 3, 2, 1
    rows = 5 * min(labels, most) + (shape + outline + surface + relevant) * most + 3 * classes
    if not labels:
        rows = most + classes
    shown = rows * ctx.config.view.steps
    size = shown * 4 * min(ctx.generator.resolution, 256) ** 2
    return Workload(looked(ctx, shown, shared=False), size, notes=("pictures: at most as many images as are counted",))


def traversal_work(ctx: Context, expected: Expected) -> Workload:
    """Of both ends of every candidate, and of the units that are shown every step."""
    from lis.units.traversal import CANDIDATES

    config, known, classes = ctx.config.traversal, ctx.classifier.units, len(ctx.class_names)
    ranked = 2 * min(max(CANDIDATES, config.units), known) * config.samples * classes
    shown = min(config.units, known) * config.examples * classes * config.steps
    return Workload(images(ctx, ranked + shown, shared=False), shown * 3 * ctx.generator.resolution**2)


def view_work(ctx: Context, expected: Expected) -> Workload:
    """Of every step of the samples that are shown: some of a class, or one of each."""
    samples = ctx.config.view.samples if ctx.config.class_name else len(ctx.class_names)
    shown = samples * ctx.config.view.steps
    return Workload(looked(ctx, shown, shared=False), shown * 4 * min(ctx.generator.resolution, 256) ** 2)


def truth_work(ctx: Context, expected: Expected) -> Workload:
    """Of both ends of every unit in every sample the exact picture."""
    units, samples = tuned_units(ctx), tuned_samples(ctx)
    size = units * samples * 7 * FLOAT * len(getattr(ctx.generator, "labels", ()))
    shards = (Blocks("truth-shard", math.ceil(units / ctx.config.tuning.unit_block), size),)
    return Workload((Load(TRUTHS, 2 * units * samples, shared=True),), 50 * units, shards)


def intervention_work(ctx: Context, expected: Expected) -> Workload:
    """Of some tuned samples two images for every factor."""
    from lis.units.intervention import validate_intervention

    factors = len(validate_intervention(ctx.generator).factor_names)
    count = 2 * factors * _first_samples(ctx, ctx.config.intervention.samples)
    return Workload(images(ctx, count, shared=False), 40 * ctx.classifier.units * factors)


def _first_samples(ctx: Context, per_class: int) -> int:
    """Tuned samples of all classes, at most so many of each."""
    return min(per_class, ctx.config.tuning.seeds) * len(ctx.class_names)


def planted_work(ctx: Context, expected: Expected) -> Workload:
    """Of test pairs, both ends of every single-factor unit and, drawn exactly, of every factor, and of new figures."""
    from lis.classifiers.planted import ReadFromImages
    from lis.units.planted import NEW, validate_planted

    config, (units, world, _) = ctx.config.planted, validate_planted(ctx)
    samples, factors = _first_samples(ctx, config.samples), len(world.factor_names)
    single = min(units.planting.kind.count("single"), tuned_units(ctx))
    pool = min(config.images, ctx.config.pairs.test) * len(ctx.class_names)
    new, drawn = NEW * len(units.class_names), 2 * 2 * factors * samples  # one standard deviation, and the range
    read = isinstance(units, ReadFromImages)
    loads = (
        *looked(ctx, pool + 2 * single * samples, shared=False),
        *images(ctx, closed_passes(ctx, single, samples, 2) + new, shared=False),
        Load(TRUTHS, drawn + read * new),
        *((Load(GENERATOR, new), Load(CLASSIFIER, 2 * new)) if read else ()),  # as they are drawn, and generated
    )
    size = 40 * 5 * len(ctx.config.classes.labels) * factors + 400 * ctx.classifier.units
    return Workload(loads, size, notes=(_SINGLE,))


def images_work(ctx: Context, expected: Expected) -> Workload:
    """Of every file of the folder a picture, and what the link makes of it."""
    from lis.units.photos import photo_files

    known, side = ctx.classifier.units, ctx.generator.resolution
    count = len(photo_files(Path(str(ctx.config.images))))
    train, test = (n * len(ctx.class_names) for n in (ctx.config.pairs.train, ctx.config.pairs.test))
    loads = (
        Load(PHOTOS, count),
        Load(CLASSIFIER, count),
        *looked(ctx, count, shared=False),
        Load(COVARIANCE, train, scale=(known / min(known, LARGEST)) ** 2),
    )
    size = count * (7 * side**2 + FLOAT * (known + ctx.generator.w_dim)) + 2 * FLOAT * test
    return Workload(loads, size, notes=(_FILES,))


def _photographed(ctx: Context) -> Callable[[int], object]:
    """Pictures of the folder, one after the other."""
    from lis.units.photos import photo_files, read_photo

    folder, side = Path(str(ctx.config.images)), ctx.generator.resolution
    files = photo_files(folder)
    return lambda count: [read_photo(path, side, folder) for path in islice(cycle(files), count)]


def _covariance(ctx: Context) -> Callable[[int], object]:
    """Of random pairs, some more for each class than are asked for."""
    from lis.units.images import Mahalanobis

    units, classes = min(ctx.classifier.units, LARGEST), len(ctx.class_names)

    def run(count: int) -> None:
        labels = torch.arange(classes).repeat_interleave(count // classes + 2)
        r = torch.randn(len(labels), units, generator=torch.Generator().manual_seed(0))
        Mahalanobis.of(r, labels)

    return run


def _truths(ctx: Context) -> Callable[[int], object]:
    from lis.units.truth import true_measures, validate_truth

    renderer, w = validate_truth(ctx.generator), style_codes(ctx, 1)
    return repeated(ctx.images(), lambda rows: true_measures(renderer, w.repeat(len(rows), 1)))


FORWARD = Operation("pairs that a forward model is fitted to", _forward, fit=True, most=4096)
STATISTICS = Operation("groups of units that statistics are told of", _statistics, constant=True, most=3)
CONTROLS = Operation("random directions beside a group of units", _controls, constant=True, most=16)
TRUTHS = Operation("exact pictures that are measured", _truths)
PHOTOS = Operation("pictures that are read", _photographed, most=64)
COVARIANCE = Operation("pairs whose covariance distances rest on", _covariance, fit=True, most=4096)
