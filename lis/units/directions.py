"""How a change that is asked of R becomes one of W: along a link's row, or along what arrives in the network.

The row of a link is a filter: what makes a unit different from the others, not what goes with it. Asked along one, a
unit hardly moves. The other ways rest on the forward model (`lis.linking.forward`) and not on the link, which only
gives the place that a sample starts from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.linking.forward import Forward
from lis.linking.link import link, load_link
from lis.linking.pairs import train_pairs
from lis.linking.scatter import FOLDS
from lis.look import Looker
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Link
from lis.units.arrival import Arrival
from lis.units.closed import PENALTY, Closed, validate_closed
from lis.units.perturbation import Perturbation
from lis.units.work import directions_work

log = logging.getLogger(__name__)
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""λ that are tried. Below 0.1 part world's truth is lost: a direction that isolates a unit moves another factor than
the one that the unit responds to (65 % right at 0.1, 54 % at 0.01, 12 % at 1e-4; dogs)."""
ARRIVES = 0.9
"""Share of the asked change that is to arrive in the unit, where a λ is to be chosen."""
UNITS, SAMPLES = 20, 10
"""How many are tuned for each λ."""
_OTHER_LINK = "expected finite numbers; fit another link (link=ridge), or take another unit"
_SILENT = (
    "within classes w says nothing of it; expected what follows from w; take another unit or direction, or "
    "tuning.along=link"
)
"""Why there is no Δw of the forward model."""


Key = tuple[int, tuple[int, ...], bytes | None]
"""Of a unit, group or direction, whatever its range: unit, units that are to arrive exactly, and the vector's bytes."""


@dataclass(frozen=True)
class Directions:
    """Style codes of samples whose activations are asked to change.

    Example:
        >>> from lis.linking.linear import LinearLink
        >>> double = Directions(LinearLink.of(2 * torch.eye(2), torch.zeros(2)))
        >>> unit = Perturbation.of_unit(0, low=0.0, high=3.0)
        >>> double.moved(torch.tensor([[1.0, 5.0]]), unit, unit.values(2)).tolist()
        [[[0.0, 10.0], [6.0, 10.0]]]
    """

    link: Link
    """f: a sample starts from f(r)."""
    along: str = "link"
    """`link`: f(r + Δr), the paper's; `pattern`, `faithful`: `Forward.pattern`, `Forward.least_leakage`; `closed`:
    `Closed.moved`."""
    forward: Forward | None = None
    """None only where `along` is `link` and nobody asks what lies beyond the training samples."""
    penalty: float = 0.1
    """λ of `faithful` and `closed`."""
    closed: Closed | None = None
    """Asks the models themselves; None only where `along` is not `closed`."""
    _known: dict[Key, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Δw of what was asked so far, by what of it they follow from."""

    def delta(self, asked: Perturbation, device: torch.device | str = "cpu") -> Tensor | None:
        """Δw `[w_dim]` per step of 1 along d, float64; None where it differs from sample to sample.

        Of a link's own rows dᵀB, None of a link that bends; what has a `direction` is linear. None of `closed`.
        """
        if self.along == "link":
            return _row(self.link, asked, device)
        return None if self.along == "closed" else self._predicted(asked).to(device)

    def _predicted(self, asked: Perturbation) -> Tensor:
        """What the forward model gives, solved once for each unit, group or direction.

        Raises:
            ValueError: w cannot give each unit of a group any value.
        """
        vector = None if asked.direction is None else asked.direction.cpu().numpy().tobytes()
        key = (asked.unit, asked.exact, vector)
        if key not in self._known:
            self._known[key] = self._solved(asked)
        return self._known[key]

    def _solved(self, asked: Perturbation) -> Tensor:
        model = self.model
        target, held = asked.target(len(model.std)).to(model.std), asked.held(model.std, model.live)
        if asked.exact:
            _check_group(model, asked, held)
        if self.along == "pattern":
            return model.pattern(target, held)
        return model.least_leakage(target, held, self.penalty)

    def moved(self, r: Tensor, asked: Perturbation, values: Tensor) -> Tensor:
        """w of samples that are asked to take each of a number of values along a direction.

        w = f(r) + s Δw with s = v − r·d, and for a link that bends f(r + s d). Along any other way than the link's, w
        stops where 99 % of held-out training samples do (`Forward.stopped`). With `closed` it is the image of a sample
        that is to show v.

        Args:
            r: activations `[n, units]`.
            asked: the unit or direction.
            values: v `[steps]`.

        Returns:
            `[n, steps, w_dim]`, in r's dtype.

        Raises:
            ValueError: a w is not finite; names the unit or direction and its range. Each unit of a group is to arrive,
                and w moves some only together. As `Closed.moved`.
        """
        return self.moved_each(r, [asked], values[None])[0]

    def moved_each(self, r: Tensor, asked: Sequence[Perturbation], values: Tensor) -> Tensor:
        """The same of P units or directions: `[P, n, steps, w_dim]`, with v `[P, steps]`.

        Asked together, those of `closed` share their passes.
        """
        if self.along == "link" and not hasattr(self.link, "direction"):
            return torch.stack([self._bent(r, each, v) for each, v in zip(asked, values, strict=True)])
        base = self.link(r)
        if self.closed is not None:
            for each in asked:  # before the passes
                _finite(self._predicted(each), each, _SILENT)
            w = self.closed.moved(base, asked, values).to(r)
        else:
            change = torch.stack([self._change(r, each, v) for each, v in zip(asked, values, strict=True)])
            if self.along != "link":
                change = change * self.model.stopped(base.cpu(), change.cpu()).to(r.device)[..., None]
            w = base[:, None] + change.to(r.dtype)
        for row, each in zip(w, asked, strict=True):
            _finite(row, each)
        return w

    def moved_in_turn(self, r: Tensor, asked: Sequence[Perturbation], at_once: int) -> Iterator[Tensor]:
        """The first and last w of one unit or direction after the other, `[n, 2, w_dim]` each.

        Args:
            r: activations `[n, units]`.
            asked: the units or directions, as many as one likes.
            at_once: how many are moved together; those of `closed` share their passes, and all are held at once.
        """
        for start in range(0, len(asked), at_once):
            some = asked[start : start + at_once]
            moved = self.moved_each(r, some, torch.stack([each.values(2) for each in some]))
            if self.closed is not None and not start:  # only now it is known how derivatives are taken
                passes = self.closed.passes(len(asked), len(r), 2)
                log.info("%d units in %d samples: %s passes at most", len(asked), len(r), f"{passes:,}")
            yield from moved

    def _bent(self, r: Tensor, asked: Perturbation, values: Tensor) -> Tensor:
        """w `[n, steps, w_dim]` along a link that bends."""
        moved = asked.applied(r, values)
        return _finite(self.link(moved.flatten(0, 1)).unflatten(0, moved.shape[:2]), asked)

    def _change(self, r: Tensor, asked: Perturbation, values: Tensor) -> Tensor:
        """s Δw `[n, steps, w_dim]`, float64, before w stops."""
        delta, shift = self.delta(asked, r.device), asked.shift(r, values)[..., None]
        assert delta is not None  # of a link that bends, and of `closed`, nobody asks
        change = (shift * delta).where(shift != 0, 0.0)  # what is not asked to move stays, though w may be mute of it
        return change if self.along == "link" else _finite(change, asked, _SILENT)

    def beyond(self, w: Tensor) -> Tensor:
        """1 where `w [..., w_dim]` lies beyond 99 % of held-out samples, or was stopped there, else 0: `[...]` float32.

        NaN where too few training pairs say where samples lie (`Forward.unfitted`).
        """
        return self.model.beyond(w.cpu()).float().where(self.model.bound.isfinite(), torch.nan)

    def step_norm(self, r: Tensor, asked: Perturbation) -> float:
        """‖Δw‖ that is asked from the lowest to the highest value; a mean over `r [n, units]` where it differs.

        Infinite where w says nothing of the unit. Of `closed`, where it would take all passes to know, what the forward
        model asks with the same λ: what was moved in the end is the `step_norm` of each sample.

        Raises:
            ValueError: the link gives a w that is not finite.
        """
        delta = self._predicted(asked).to(r.device) if self.along == "closed" else self.delta(asked, r.device)
        if delta is None:
            step = self.moved(r, asked, asked.values(2)).diff(dim=1)[:, 0].norm(dim=1).mean()
            return float(_finite(step, asked))
        norm = float(abs(asked.high - asked.low) * delta.norm())
        if self.along == "link":
            _finite(torch.tensor(norm), asked)
        return norm if norm < torch.inf else torch.inf

    @property
    def live_std(self) -> Tensor:
        """σ of each unit, infinite for units that are not live: `[units]` float32."""
        return self.model.std.where(self.model.live, torch.inf).float()

    @property
    def model(self) -> Forward:
        """The forward model.

        Raises:
            ValueError: there is none.
        """
        if self.forward is None:
            raise ValueError(f"along={self.along!r} without a forward model: expected one, from lis.linking.forward")
        return self.forward


def _row(link: Link, asked: Perturbation, device: torch.device | str) -> Tensor | None:
    """dᵀB `[w_dim]` of a linear link; None for a link that bends."""
    of_unit = getattr(link, "direction", None)
    if of_unit is None:
        return None
    if asked.direction is None:
        return of_unit(asked.unit).to(device)
    d = asked.direction.double().to(device)
    return link(torch.stack([torch.zeros_like(d), d])).diff(dim=0)[0]


def _finite(values: Tensor, asked: Perturbation, remedy: str = _OTHER_LINK) -> Tensor:
    """What is made of a unit or direction, checked."""
    if not values.isfinite().all():
        raise ValueError(f"there is no finite w for {asked.label} between {asked.low:g} and {asked.high:g}: {remedy}")
    return values


def _check_group(model: Forward, asked: Perturbation, held: Tensor) -> None:
    """Checks that w can give each unit of a group any value; `held` are the rows of them."""
    if silent := model.silent(held):
        raise ValueError(
            f"direction={asked.label}: within classes w says nothing of unit {asked.exact[silent[0]]}, expected units "
            "that follow from w; leave it out, or take tuning.along=link"
        )
    if (index := model.dependent(held)) is not None:
        raise ValueError(
            f"direction={asked.label}: w moves unit {asked.exact[index]} only together with those before it, expected "
            "units that w can move apart, since each is to arrive as it is asked; leave it out, give the vector in a "
            "file, which is to arrive as a whole, or take tuning.along=link"
        )


def _also(ctx: Context) -> dict[str, Any]:
    config = ctx.config.tuning
    return {"along": config.along} | ({"penalty": config.penalty} if config.along in ("faithful", "closed") else {})


def problems(config: RunConfig) -> list[str]:
    """Too few training pairs for the forward model, which every way but the link's rests on."""
    if config.tuning.along == "link" or config.pairs.train > FOLDS:
        return []
    return [
        f"pairs.train={config.pairs.train}: expected more than {FOLDS} per class with tuning.along="
        f"{config.tuning.along}, so that some can be held out while r is regressed on w; raise pairs.train, or take "
        "tuning.along=link"
    ]


def check(ctx: Context) -> None:
    """Models without the derivatives that `closed` needs."""
    if ctx.config.tuning.along == "closed":
        validate_closed(ctx)


@stage(
    "directions",
    version=1,
    inputs=(link, train_pairs),
    seed=True,
    models=MODELS,
    also=_also,
    problems=problems,
    check=check,
    work=directions_work,
)
def directions(ctx: Context, linked: Artifact, source: Artifact, draft: Draft) -> None:
    """How a change of R is asked of W (`tuning.along`): the forward model, its λ, and where w stops.

    Tensors "forward" (`lis.linking.forward.Forward`). Tables "ridge" and "units" (of `Forward.fit`), and "penalty", a
    row per λ that was tried, none where none had to be chosen: penalty, own (share of the asked ±1 standard deviation
    that arrives), others (rms change of the other units per standard deviation of the unit's own), more, images (that
    it took), chosen. Json "directions": along, penalty. With `tuning.along=link` and too few training pairs for a
    forward model there is none (`Forward.unfitted`): no ridge, r2 NaN.

    Raises:
        ValueError: what the stages before refuse.
    """
    config, units, samples = ctx.config.tuning, linked.table("units"), source.tensors("pairs")
    std, live = torch.tensor(units["std"].tolist()).double(), torch.tensor((units["status"] == "live").tolist())
    if ctx.config.pairs.train > FOLDS:
        forward, ridges, told = Forward.fit(samples["r"], samples["w"], samples["class_index"], std, live)
    else:
        forward = Forward.unfitted(samples["w"].shape[1], std, live)
        ridges = pd.DataFrame({"ridge": [], "r2": [], "chosen": []})
        told = pd.DataFrame({"unit": range(len(std)), "r2": np.nan})
    draft.tensors("forward", forward.tensors)
    draft.table("ridge", ridges)
    draft.table("units", told)
    default = PENALTY if config.along == "closed" else PENALTIES[0]
    made = Directions(load_link(linked), config.along, forward, config.penalty or default)
    tried = pd.DataFrame({"penalty": [], "own": [], "others": [], "more": [], "images": [], "chosen": []})
    if config.along == "faithful" and config.penalty is None:
        tried = penalties(ctx, made, samples["r"])
        made = replace(made, penalty=float(tried.loc[tried["chosen"], "penalty"].iloc[0]))
    draft.table("penalty", tried)
    draft.json("directions", {"along": made.along, "penalty": made.penalty})


def load_directions(ctx: Context, linked: Artifact, made: Artifact) -> Directions:
    """The directions of the artifacts of the stages `link` and `directions`, on the CPU."""
    facts, forward = made.json("directions"), Forward.from_tensors(made.tensors("forward"))
    result = Directions(load_link(linked), facts["along"], forward, facts["penalty"])
    if result.along != "closed":
        return result
    return replace(result, closed=Closed.of(ctx, forward, result.penalty))


def around(unit: int, std: float) -> Perturbation:
    """A unit, by one standard deviation to both sides of where each sample has it."""
    return replace(Perturbation.of_unit(unit, -std, std), relative=True)


def penalties(ctx: Context, made: Directions, r: Tensor) -> pd.DataFrame:
    """What arrives with each λ of some units on some of the samples `r [n, units]`: table "penalty" of `directions`.

    Chosen is the λ with the smallest change of the others per own one among those where `ARRIVES` of what is asked of
    the unit arrives; where none does, the one of which most arrives.

    Raises:
        ValueError: w says nothing of any live unit.
    """
    forward = made.model
    rng = Stream("directions", ctx.config.seed).rng()
    live = (forward.live & (forward.expressed > 0)).nonzero()[:, 0].numpy()
    if not len(live):
        raise ValueError(
            "w says nothing of any live unit of the classifier: expected one or more whose activation follows from w; "
            "use another classifier, or set tuning.penalty"
        )
    units = rng.choice(live, min(UNITS, len(live)), replace=False).tolist()
    some = r[torch.from_numpy(rng.choice(len(r), min(SAMPLES, len(r)), replace=False))]
    looker = Looker(ctx, ctx.tuned_batches())
    rows = []
    for penalty in ctx.progress.track(PENALTIES, label="penalties of directions"):
        tried = replace(made, penalty=penalty)
        own, others, more = means(
            [arrival(looker, tried, some, around(unit, float(forward.std[unit]))) for unit in units]
        )
        rows.append((penalty, own / 2, others / own, more, 2 * len(units) * len(some)))
    table = pd.DataFrame(rows, columns=["penalty", "own", "others", "more", "images"])
    enough = table["own"] >= ARRIVES
    best = np.argmin(table["others"].where(enough)) if np.any(enough) else np.argmax(table["own"])
    return table.assign(chosen=table.index == best)


@torch.inference_mode()
def arrival(looker: Looker, made: Directions, r: Tensor, unit: Perturbation) -> Arrival:
    """What arrives of a unit in samples `r [n, units]`."""
    encoded = looker(made.moved(r, unit, unit.values(2))).r
    return Arrival.of(unit, encoded[:, 0], encoded[:, -1], made.live_std, float(made.model.std[unit.unit]))


def mean_arrival(made: Directions, asked: Perturbation, w: Tensor, r: Tensor, std: float) -> dict[str, float]:
    """What arrives, and the step: the means over samples of own, others, more, beyond and step_norm, for a table.

    Args:
        made: which way it was moved.
        asked: the unit or direction.
        w: `[n, steps, w_dim]`.
        r: activations of their images, `[n, steps, units]`.
        std: standard deviation of r·d.
    """
    told = Arrival.of(asked, r[:, 0], r[:, -1], made.live_std, std)
    step = (w[:, -1] - w[:, 0]).norm(dim=1)
    beyond = made.beyond(w[:, -1])
    values = {"own": told.own, "others": told.others, "more": told.more, "beyond": beyond, "step_norm": step}
    return {name: float(value.nanmean()) for name, value in values.items()}


def means(arrivals: Sequence[Arrival]) -> tuple[float, float, float]:
    """Mean own, others and more over samples and units."""
    own, others, more = (
        torch.cat([getattr(each, name) for each in arrivals]).nanmean() for name in ("own", "others", "more")
    )
    return float(own), float(others), float(more)
