"""What a study says of itself: its models, classes and counts."""

from __future__ import annotations

from lis.api.inputs import name_of
from lis.context import Context


def study_facts(ctx: Context) -> dict[str, str]:
    """Names to what is known of a study whose settings are checked."""
    model, generator, settings, witness = ctx.classifier, ctx.generator, ctx.config, ctx.witness
    known = f"{len(model.class_names)} classes"
    return {
        "classifier": f"{name_of(model)}, {model.units} units, "
        + (f"a linear probe of {len(ctx.class_names)} classes" if settings.classifier.probe else known),
        **({"witness": f"{name_of(witness)}, {witness.units} units"} if witness else {}),
        "generator": f"{name_of(generator)}, {generator.resolution} pixels, w of {generator.w_dim}",
        "classes": ", ".join(ctx.class_names),
        "parts": ", ".join(settings.classes.labels) or "none",
        "link": settings.link._target_.rpartition(".")[2],
        "pairs per class": f"{settings.pairs.train} train, {settings.pairs.test} test",
        "stages of all units": _extent(ctx),
        "seed": str(settings.seed),
        "store": str(settings.store),
    }


def _extent(ctx: Context) -> str:
    """How many units, samples and controls the stages tune; the smallest p that is counted."""
    tuning, units = ctx.config.tuning, ctx.classifier.units
    n = tuning.control_directions
    controls = f"{n} random directions, which count a p down to {1 / (n + 1):.2g}" if n else "no controls"
    return f"{min(tuning.units or units, units)} of {units} units on {tuning.seeds} samples per class; {controls}"
