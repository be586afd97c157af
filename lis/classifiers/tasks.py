"""Rendered figures with labels, drawn without end: what photographs are to an ImageNet classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.classifiers.partnet import CLASSES
from lis.generators.partworld.world import SETS, world


@dataclass(frozen=True)
class Task:
    """What a classifier of part world is to tell.

    Args:
        attribute: `<set>/<factor>`: whether the factor is above 0, on figures of that set; None: the class, out of all
            fifteen.

    Raises:
        ValueError: there is no such set or factor.

    Example:
        >>> Task("dogs/ear_angle").outputs, Task().class_names[:2]
        (('ear_angle_low', 'ear_angle_high'), ('border_collie', 'pug'))
    """

    attribute: str | None = None

    def __post_init__(self) -> None:
        if self.attribute is None:
            return
        name, _, factor = self.attribute.partition("/")
        if name not in SETS or factor not in SETS[name].factor_names:
            offered = [f"{name}/{factor}" for factor in SETS[name].factor_names] if name in SETS else list(SETS)
            raise ValueError(
                f"classifier.attribute={self.attribute}: expected <set>/<factor>, one of {', '.join(offered)}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the figures that are drawn."""
        return CLASSES if self.attribute is None else world(self.attribute.split("/")[0]).class_names

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the answers, in the order of the logits."""
        factor = (self.attribute or "").partition("/")[2]
        return (f"{factor}_low", f"{factor}_high") if factor else CLASSES

    def draw(self, per_class: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images `[n, 3, 64, 64]` in [-1, 1], answers `[n]` and those of Bayes' rule `[n]`, every class equally often.

        Bayes' rule knows the factors: it is right about an attribute, and about a class within its set as often as
        anyone can be.
        """
        if self.attribute is None:
            image, label, factors, sets = draw_figures(per_class, rng)
            return image, label, bayes_class(factors, sets)
        name, _, factor = self.attribute.partition("/")
        image, _, u = draw_set(name, per_class, rng)
        label = (u[:, SETS[name].factor_names.index(factor)] > 0).long()
        return image, label, label


def draw_set(name: str, per_class: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Figures of one set: images `[n, 3, 64, 64]`, class within the set `[n]`, factors `[n, factors]`."""
    here = world(name)
    local = torch.arange(len(here.class_names)).repeat_interleave(per_class)
    u = here.factors_of(torch.randn(len(local), len(here.figures.factor_names), generator=rng), local)
    return here.figures.render(u)[0], local, u


def draw_figures(per_class: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One batch of all classes: images `[n, 3, 64, 64]`, class `[n]`, factors `[n, 25]` with NaN, set `[n]`."""
    width = max(len(figures.factor_names) for figures in SETS.values())
    images, classes, factors, sets = [], [], [], []
    for index, name in enumerate(SETS):
        image, local, u = draw_set(name, per_class, rng)
        images.append(image)
        classes.append(local + CLASSES.index(world(name).class_names[0]))
        factors.append(F.pad(u, (0, width - u.shape[1]), value=torch.nan))
        sets.append(torch.full_like(local, index))
    return torch.cat(images), torch.cat(classes), torch.cat(factors), torch.cat(sets)


def bayes_class(factors: Tensor, sets: Tensor) -> Tensor:
    """The most probable of the fifteen classes `[n]`, given true factors `[n, 25]` and the set `[n]`."""
    result = torch.empty_like(sets)
    for index, name in enumerate(SETS):
        here, subset = world(name), sets == index
        u = factors[subset][:, : len(here.figures.factor_names)]
        result[subset] = here.bayes_class(u) + CLASSES.index(here.class_names[0])
    return result
