"""A study: what the command line takes, as keywords or strings, and what a notebook asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lis.api import notebook
from lis.api.ablation import AblationResult, ablated
from lis.api.counterfactual import CounterfactualResult, counterfactuals
from lis.api.dissection import DissectionResult, dissected
from lis.api.inputs import (
    Kind,
    Rows,
    activations,
    as_pictures,
    class_names,
    encoded,
    listed,
    name_of,
    requested_direction,
    whole,
)
from lis.api.keywords import beside_hydra, is_object, overrides_of
from lis.api.painted import PaintResult, painted
from lis.api.results import FittedLink, LookResult, Pairs, StageResult
from lis.api.study_facts import study_facts
from lis.api.tuned import TuneResult
from lis.build import named_generator
from lis.classifiers.classifier import ready
from lis.compose import composed
from lis.config import RunConfig
from lis.config.renamed import RENAMED
from lis.context import Context
from lis.dissection.painting import PixelSegmenter
from lis.images import page_image, to_uint8
from lis.job import prepared, run_stage
from lis.labels.labelled import folder_digest
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.names import nearest
from lis.progress import Progress, say
from lis.stages import names as stage_names
from lis.store import Artifact
from lis.testing import check_classifier, check_generator
from lis.types import Classifier, Generator
from lis.units.arrival import Arrival
from lis.units.directions import directions, load_directions
from lis.units.parts import Parts
from lis.units.traversal import traverse
from lis.units.unit import Traversal

_ANALYSES = ("analysis", "experiment")
"""What chooses stages, all of which are then checked with the study."""


def study(
    *overrides: str,
    gan: str | Generator | Mapping[str, Any] | None = None,
    classifier: str | Classifier | Mapping[str, Any] | None = None,
    classes: str | Sequence[str] | Mapping[str, Any] | None = None,
    link: str | Mapping[str, Any] | None = None,
    size: str | None = None,
    witness: str | Classifier | None = None,
    **keys: Any,
) -> Study:
    """A classifier, a generator and a link between them, with everything that is known of the three.

    What is computed is kept in the store (`store=…`, by default `outputs/store` in the working folder), where the
    command line finds it too. Nothing is computed but checks until something is asked for. Models are put on the run's
    device and frozen, also those that are given as objects.

    Args:
        overrides: as they are typed behind `python -m lis.run`: "pairs.train=60".
        gan: a generator's name, as `gan=…` has it, or a generator, see `lis.check_generator`.
        classifier: a classifier's name, as `classifier=…` has it, or a classifier, see `lis.check_classifier`.
        classes: a set's name, the names of classes, or {"names": […], "labels": […]} with the parts that they have.
        link: a link's name, as `link=…` has it.
        size: `smoke` (seconds), `demo` or `paper`.
        witness: another classifier that is asked about counterfactuals, as `counterfactuals.witness=…` has it, or an
            object.
        keys: any other group or key: `seed=3`, `device="cpu"`, `pairs={"train": 60}`, `**{"pairs.train": 60}`.
            `threads=2` sets torch's number for the whole process, and it stays so.

    Raises:
        ValueError: an unknown option or key, or a bad value; models whose classes or domains do not go together.
        ContractError: an object does not keep the contract of `lis.types`; says how to mend it.

    Example:
        >>> import lis
        >>> s = lis.study("view.steps=5", classes=["pug", "chihuahua"], size="smoke", pairs={"test": 20}, seed=1)
        >>> s.class_names, len(s.pairs("test")), s.settings.view.steps
        (('pug', 'chihuahua'), 40, 5)
    """
    named = {"gan": gan, "classifier": classifier, "classes": classes, "link": link, "size": size, "witness": witness}
    given = {name: value for name, value in named.items() if value is not None}
    generator: Any = gan if is_object(gan) else None
    model: Any = classifier if is_object(classifier) else None
    other: Any = witness if is_object(witness) else None
    if generator is not None:
        check_generator(generator)
    with beside_hydra():
        objects = any(each is not None for each in (generator, model, other))
        settings = composed([*overrides, *overrides_of(given | keys)], Path.cwd(), objects)
    if not any(key.partition(".")[0] in _ANALYSES for key in [*keys, *(_key(text) for text in overrides)]):
        settings = replace(settings, analysis=replace(settings.analysis, stages=["link"]))
    folder_digest(settings.labels.folder)  # where there is none, that is told now, and not by the first look
    for each in (model, other):
        if each is not None:
            generator = named_generator(settings) if generator is None else generator
            check_classifier(each, generator.resolution)
    return Study(replace(prepared(settings, generator, model, other), progress=Progress(tell=say)))


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """A classifier, a generator and a link between them; made by `lis.study`."""

    checked: Context
    """Whose settings and models are checked; the classifier may still have to be trained."""

    @cached_property
    def context(self) -> Context:
        """What every stage is given; a classifier that has to be trained or probed first is so now."""
        return ready(self.checked)[0]

    @property
    def settings(self) -> RunConfig:
        """What the command line calls the configuration."""
        return self.checked.config

    @property
    def generator(self) -> Generator:
        """The generator, on the run's device."""
        return self.checked.generator

    @property
    def classifier(self) -> Classifier:
        """The classifier, ready to be used, on the run's device."""
        return self.context.classifier

    @cached_property
    def link(self) -> FittedLink:
        """The fitted link: `s.link(r)` gives w̃ `[n, w_dim]` of activations, pairs or pictures."""
        return FittedLink(load_link(self._linked), self._linked.table("units"), self._activations)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are looked at."""
        return self.checked.class_names

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the parts that are looked for; none where the set of classes names none."""
        return tuple(self.settings.classes.labels)

    def pairs(self, split: str = "test") -> Pairs:
        """Samples of every class that the classifier gets right: `train`, which the link is fitted to, `test`, or
        `tuning`, on which the stages tune every unit.

        Raises:
            ValueError: an unknown split, or a class that the classifier hardly ever gets right.
        """
        tensors = pairs(self.context, split).tensors("pairs")
        return Pairs(**tensors, class_names=self.class_names, images=self._images)

    def encode(self, pictures: Any) -> Tensor:
        """Activations r `[n, units]` of pictures, `[units]` of a single one, on the CPU.

        Args:
            pictures: PIL pictures, paths, arrays of uint8 `[n, H, W, 3]` or `[n, 3, H, W]`, or images of the generator
                in [-1, 1]; one or many. All but floats are cut square and resized.

        Raises:
            ValueError: one of them cannot be used; floats that all lie in [0, 1] are taken for a mistake.

        Example:
            >>> import lis
            >>> import PIL.Image
            >>> s = lis.study(size="smoke")
            >>> picture = s.look(s.pairs("test")["w"][0]).image.movedim(0, -1).numpy()
            >>> s.encode(picture).shape, s.encode([PIL.Image.fromarray(picture)]).shape
            (torch.Size([256]), torch.Size([1, 256]))
        """
        rows = encoded(self.context, as_pictures(pictures, self.generator.resolution))
        return rows.values.reshape(*rows.leading, -1)

    def look(self, w: Any) -> LookResult:
        """What is read off the images of style codes: parts, their measures, activations, answers.

        Args:
            w: `[…, w_dim]`, or pairs, whose w is taken.

        Raises:
            ValueError: w is of another shape, or not finite.
        """
        rows = Kind.w(self.checked).rows(w.w if isinstance(w, Pairs) else w, many="…")
        ctx, parts = self.context, self._parts
        look = Looker(ctx, ctx.batches(parts.masks), parts.masks, parts.labels, to_uint8, mask=True)(rows.values)
        tensors = look.tensors(("image", "mask", "measures", "r", "logits", "probability")) | {"w": rows.values}
        shaped = {name: x.reshape(*rows.leading, *x.shape[1:]) for name, x in tensors.items()}
        return LookResult(**shaped, **self._names)

    def tune(
        self, r: Any, unit: int | None = None, direction: Any = None, steps: int | None = None, classes: Any = None
    ) -> TuneResult:
        """Samples along one unit or direction, from its smallest to its largest value over the training pairs.

        Args:
            r: activations `[n, units]` or `[units]`, pairs, or pictures (PIL or paths; of arrays, `s.encode(…)`).
            unit: number of a unit.
            direction: instead of a unit: `pc:1`, `classes:pug-chihuahua`, a group `units:3+5`, the path of a vector, a
                vector `[units]`, or a `Perturbation`, which has its own range.
            steps: values, 2 or more; None: `view.steps`.
            classes: class of each sample, by name or index; None: that of the pairs, or, of what has none, the one of
                the study's classes that the classifier finds most likely.

        Raises:
            ValueError: neither unit nor direction, or both; a dead unit; an unknown one; r of another shape; pairs of
                another study, whose classes this one does not have.
        """
        along, status = requested_direction(self.context, self._linked, unit, direction)
        count = self.settings.view.steps if steps is None else whole(steps, "steps")
        if count < 2:
            raise ValueError(f"steps={count}: expected 2 or more")
        rows, index = self._samples(r, classes)
        samples = {"r": rows.values, "class_index": index, "sample_index": torch.arange(len(index))}
        looker, value = Looker.pictured(self.context, self._parts.masks, self._parts.labels), along.values(count)
        made = load_directions(self.context, self._linked, directions(self.context))
        w, look = traverse(looker, made, rows.values, along, value)
        std = float(along.project(pairs(self.context, "train").tensors("pairs")["r"]).std(correction=0))
        arrival = Arrival.of(along, look.r[:, 0], look.r[:, -1], made.live_std, std)
        read = Traversal.read(along, samples, value, w, look, arrival, made.beyond(w))
        tensors = vars(read) | {"w": w, "r": look.r}
        tensors = {name: x.clone() for name, x in tensors.items()}  # which gradients may be taken through
        result = Traversal(**{name: tensors[name] for name in vars(read)})
        told = {name: x for name, x in tensors.items() if name not in ("class_index", "sample_index")}
        if not rows.leading:
            told = {name: x if name == "value" else x[0] for name, x in told.items()}
        return TuneResult(along, status, **told, **self._names, traversal=result)

    def counterfactual(self, r: Any, target: Any, origin: Any = None) -> CounterfactualResult:
        """The change Δr that makes the image of f(r + Δr) one of another class; settings are `counterfactuals`.

        Args:
            r: activations `[n, units]` or `[units]`, pairs, or pictures (as in `tune`). Test pairs are searched from
                where the stage `counterfactuals` searches; what is not of pairs has one start for all, that of index 0.
            target: a class by its name or index, or one per sample.
            origin: the same of the samples; None: that of the pairs, or what the classifier calls r.

        Raises:
            ValueError: an unknown class, a sample that is of the target class already, or r of another shape.
        """
        known, ctx = self.classifier.class_names, self.context
        rows = self._activations(r)
        n = len(rows.values)
        if origin is not None:
            origins = class_names(origin, "origin", n, known, self.class_names)
        elif isinstance(r, Pairs):
            origins = self._classes_of(r, known)
        else:
            origins = [known[k] for k in self._logits(rows.values).argmax(1).tolist()]
        targets = class_names(target, "target", n, known, self.class_names)
        index = r.sample_index if isinstance(r, Pairs) else torch.zeros(n, dtype=torch.int64)
        return counterfactuals(ctx, rows, origins, targets, index)

    def dissect(self, layer: str | None = None) -> DissectionResult:
        """Which concept each unit of a layer of the classifier agrees with, and more than chance would.

        Args:
            layer: a layer that gives a map, as `layer="features.10"`; None: `dissect.layers`, and, where these are
                empty, the last map of the convolutions.

        Raises:
            ValueError: an unknown layer, one that gives no map, too few images, or masks of a segmenter without parts.
        """
        return dissected(self.context, layer)

    def ablate(self, units: Any, layer: str | None = None, value: str | None = None) -> AblationResult:
        """What answers to the test pairs lose without some units, beside as many random ones.

        Args:
            units: numbers of units of the layer, as `units=[3, 7]`.
            layer: a layer, "penultimate" for r; None: `importance.layer`, or the last map of the convolutions.
            value: what replaces the units, "zero", "mean" or "quantile"; None: `importance.value`.

        Raises:
            ValueError: no unit, one twice, one that the layer lacks, or another layer or value than there are.
        """
        return ablated(self.context, units, layer, value, self._images)

    def paint(
        self,
        w: Any,
        units: Any,
        mask: Any = None,
        *,
        layer: str | None = None,
        value: Any = None,
        label: str | None = None,
        segmenter: PixelSegmenter | None = None,
    ) -> PaintResult:
        """Units of a layer of the generator set under a mask, and whether it shows what was painted, in one pass.

        Args:
            w: style codes `[…, w_dim]`, or pairs, whose w is taken.
            units: their numbers, or one.
            mask: `[h, w]` in [0, 1], of the size of the image or of the maps of the layer; None: the whole image.
            layer: as the generator names it; None: the one in the middle.
            value: what the units are set to, one number or one per unit; None: the 0.995 quantile of each over
                `dissect_gan.samples` samples of every class. Zero removes, but is "off" only behind a ReLU.
            label: a part that is to appear, or "background"; None: whatever the units bring.
            segmenter: what sees parts in pixels alone (`lis.PixelSegmenter`); None: as `dissect_gan.concepts` says.

        Raises:
            ValueError: a layer that is unknown or cannot be edited; pixels that nothing segments; units or a label that
                there are not; a value that is not finite; a mask of another shape, or without a pixel of at least 1/2.
        """
        rows = Kind.w(self.checked).rows(w.w if isinstance(w, Pairs) else w, many="…")
        return painted(self.checked, rows, units, mask, layer, value, label, segmenter)

    def stage(self, name: str) -> StageResult:
        """What a stage of the command line holds: read from the store, or computed now and kept there.

        Raises:
            ValueError: there is no such stage, or the study cannot have it.
        """
        old = RENAMED["analysis"] | RENAMED["stage"]
        if name in old:
            raise ValueError(f"stage({name!r}): the stage {name} is now called {old[name]}; write {old[name]!r}")
        if name not in (known := stage_names()):
            raise ValueError(f"stage({name!r}): expected one of {', '.join(known)}{nearest(str(name), known)}")
        return StageResult(name, run_stage(name, self.context))

    def _samples(self, r: Any, classes: Any) -> tuple[Rows, Tensor]:
        """Activations and the class of each sample, `[n]` int64 among the study's."""
        rows = self._activations(r)
        if classes is None and not isinstance(r, Pairs):
            columns = [self.classifier.class_names.index(each) for each in self.class_names]
            return rows, self._logits(rows.values)[:, columns].argmax(1)
        if classes is None:
            names = self._classes_of(r, self.class_names)
        else:
            names = class_names(classes, "classes", len(rows.values), self.class_names, self.class_names)
        return rows, torch.tensor([self.class_names.index(each) for each in names])

    def _classes_of(self, samples: Pairs, known: Sequence[str]) -> list[str]:
        """Class of each sample by its name, since the samples may be of another study."""
        names = samples.class_name.tolist()
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"the pairs have the class {unknown[0]!r}: expected those of this study, {listed(known)}; "
                "s.tune(…, classes=…) and s.counterfactual(…, origin=…) take others"
            )
        return names

    def _activations(self, r: Any) -> Rows:
        return activations(r.r if isinstance(r, (Pairs, LookResult)) else r, self.context)

    @torch.inference_mode()
    def _logits(self, r: Tensor) -> Tensor:
        """What the classifier says to `r [n, units]`: `[n, known]` on the CPU."""
        return self.classifier.head(r.to(self.context.device)).float().cpu()

    def _images(self, w: Tensor) -> Tensor:
        """Pictures of style codes for a page: `[n, 3, h, h]` uint8."""
        return Looker(self.context, self.context.images(), image=page_image)(w).image

    @cached_property
    def _linked(self) -> Artifact:
        return link(self.context)

    @cached_property
    def _parts(self) -> Parts:
        return Parts.of(self.context)

    @property
    def _names(self) -> dict[str, Any]:
        known = tuple(self.classifier.class_names)
        return {"labels": self._parts.labels, "class_names": self.class_names, "known": known}

    def __repr__(self) -> str:
        return (
            f"Study of {name_of(self.checked.classifier)} ({self.checked.classifier.units} units) through "
            f"{name_of(self.generator)} ({self.generator.resolution} pixels): {', '.join(self.class_names)}"
        )

    def _repr_html_(self) -> str:
        return notebook.page("Study", notebook.facts(study_facts(self.checked)))
