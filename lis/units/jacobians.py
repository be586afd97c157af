"""Derivatives of what a network sees in an image by the style code behind it, in forward or reverse mode."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from lis.linking.forward import Forward
from lis.memory import Batches, out_of_memory

Encode = Callable[[Tensor], Tensor]
"""r̃ `[n, units]`, what the classifier makes of the images of w `[n, w_dim]`; differentiable."""
log = logging.getLogger(__name__)
NUDGE = 0.05
"""Standard deviations to both sides, where derivatives are held against differences."""
AGREES = 0.25
"""Largest error of a derivative, as a share of the difference: it is one if a part of the network passes none on."""
JUMPS = (1e-3, 0.01)
"""A unit without a derivative that differs by more than the second (standard deviations) between style codes that are
this share of a nudge apart is noise, drawn anew for each image: it does not follow from w."""


class Local(NamedTuple):
    """The network at some style codes."""

    r: Tensor
    """r̃ `[n, units]`."""
    gain: Tensor
    """Its derivatives along k axes of W, `[n, units, k]`."""


def by_axis(encode: Encode, w: Tensor, axes: Tensor, batches: Batches) -> Local:
    """r̃ and its derivatives in forward mode: a pass with a tangent for each axis.

    Args:
        encode: w → r̃.
        w: `[n, w_dim]`.
        axes: directions in W, as columns `[w_dim, k]`.
        batches: how many tangents at once, each of all of `w`.

    Raises:
        RuntimeError: an operation has no derivative of this kind.
    """

    def along(axis: Tensor) -> tuple[Tensor, Tensor]:
        result = torch.func.jvp(encode, (w,), (axis.expand_as(w),))
        return result[0], result[1]

    if len(w) == 1:  # a processor's convolution of a single image (`lis.rounding`) has no tangent
        local = by_axis(encode, torch.cat([w, w]), axes, batches)
        return Local(local.r[:1], local.gain[:1])
    with _differentiable(), torch.no_grad():
        w, axes = w.clone(), axes.clone()  # of inference tensors there are no derivatives
        parts = list(batches.map(torch.func.vmap(along), axes.T.contiguous()))
    return Local(parts[0][0][0], torch.cat([change for _, change in parts]).permute(1, 2, 0))


def by_unit(encode: Encode, w: Tensor, axes: Tensor, units: Tensor) -> Local:
    """The same in reverse mode: a pass back for each of `units [m]`; the derivatives of the others are 0.

    Raises:
        RuntimeError: r̃ has no gradient.
    """
    with _differentiable(), torch.enable_grad():
        w, axes = w.clone().requires_grad_(), axes.clone()
        r = encode(w)
        columns = r[:, units].sum(0)
        rows = [torch.autograd.grad(column, w, retain_graph=True)[0] @ axes for column in columns]
    result = axes.new_zeros(*r.shape, axes.shape[1])
    result[:, units] = torch.stack(rows, 1)
    return Local(r.detach(), result)


@contextmanager
def _differentiable() -> Iterator[None]:
    with torch.inference_mode(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)  # of torch itself
        yield


class Jacobians:
    """Derivatives of r̃ by w along the axes of the forward model, each in a standard deviation of w.

    Args:
        encode: w → r̃.
        forward: its axes are those of the derivatives.
        batches: how many images at once.
        device: where `encode` works.
    """

    def __init__(self, encode: Encode, forward: Forward, batches: Batches, device: torch.device) -> None:
        self.encode, self.device = encode, device
        self.whitened = (forward.axes * forward.variance.sqrt()).to(device)
        self.units = (forward.std > 0).nonzero()[:, 0].to(device)
        width = self.whitened.shape[1]
        self.forwards = width <= len(self.units)
        self._rows, self._tangents = batches, Batches(min(width, batches.size))
        self._at_once, self._checked = max(2, batches.size // (width + 1)), False
        self._std = forward.std.to(device)
        self.noise = torch.zeros(len(self._std), dtype=torch.bool, device=device)
        """Units that jump from image to image (`JUMPS`), `[units]`; known once there is a Jacobian."""

    @property
    def passes(self) -> int:
        """Of one Jacobian: a tangent or a row each, and the image itself."""
        return 1 + (self.whitened.shape[1] if self.forwards else len(self.units))

    def __call__(self, w: Tensor) -> Local:
        """At `w [n, w_dim]`, in w's dtype, on the run's device.

        Raises:
            ValueError: the models have no derivatives, or wrong ones; memory runs out with a single image.
        """
        w = w.to(self.device)
        if not self._checked:
            self._choose(w[:1])
            self._checked = True
        return self._of(w)

    @torch.inference_mode()
    def encoded(self, w: Tensor) -> Tensor:
        """r̃ alone, `[..., units]` of `w [..., w_dim]`."""
        return torch.cat(list(self._rows.map(self.encode, w.flatten(0, -2).to(self.device)))).unflatten(0, w.shape[:-1])

    def _of(self, w: Tensor) -> Local:
        axes = self.whitened.to(w)
        if self.forwards:
            parts = [by_axis(self.encode, some, axes, self._tangents) for some in w.split(self._at_once)]
        else:
            parts = list(self._rows.map(lambda some: by_unit(self.encode, some, axes, self.units), w))
        return Local(torch.cat([part.r for part in parts]), torch.cat([part.gain for part in parts]))

    def _choose(self, w: Tensor) -> None:
        """The cheaper of both modes if it gives what differences give, else the other one."""
        reasons, names = [], {True: "forward", False: "reverse"}
        for mode in (self.forwards, not self.forwards):
            self.forwards = mode
            if not (reason := self._wrong(w)):
                if reasons:
                    log.warning("derivatives in %s mode, which takes longer: %s", names[mode], reasons[0])
                return
            reasons.append(f"{names[mode]} mode: {reason}")
        raise _without_derivatives(reasons)

    def _wrong(self, w: Tensor) -> str:
        """Why the present mode cannot be used, or nothing; held against differences along all axes together."""
        try:
            gain = self._of(w).gain
        except (RuntimeError, NotImplementedError) as error:
            if out_of_memory(error):
                raise
            return _first_line(error)
        weights = torch.ones(self.whitened.shape[1], dtype=torch.float64) / self.whitened.shape[1] ** 0.5
        nudge = NUDGE * (self.whitened.cpu() @ weights).to(w)
        near = [w + k * JUMPS[0] * nudge for k in range(4)]
        high, low, *others = self.encoded(torch.cat([w + nudge, w - nudge, *near])).double()[:, self.units]
        apart = torch.stack(others).amax(0) - torch.stack(others).amin(0)
        gain, std = gain[0, self.units].double(), self._std[self.units]
        noise = ~gain.any(1) & (apart > JUMPS[1] * std)
        if noise.all():
            return "no unit has a derivative"
        difference = ((high - low) / (2 * NUDGE))[~noise]
        error = (gain[~noise] @ weights.to(self.device) - difference).norm()
        if error > AGREES * difference.norm():
            return f"it differs from differences by {float(error / difference.norm()):.0%}"
        self.noise[self.units] = noise
        return ""


def require_derivatives(encode: Encode, w: Tensor) -> None:
    """Checks, by a pass or two and before any other work, that models have derivatives; of how many units, nobody asks.

    Args:
        encode: w → r̃.
        w: a style code `[1, w_dim]`, on the run's device.

    Raises:
        ValueError: they have none, in neither mode.
    """
    axes, reasons = w.new_ones(w.shape[1], 1), list[str]()
    tried: dict[str, Callable[[], Local]] = {
        "reverse": lambda: by_unit(encode, w, axes, torch.zeros(1, dtype=torch.int64, device=w.device)),
        "forward": lambda: by_axis(encode, w, axes, Batches(1)),
    }
    for name, derived in tried.items():
        try:
            derived()
        except (RuntimeError, NotImplementedError) as error:
            if out_of_memory(error):
                return  # which the work itself says, with what helps
            reasons.append(f"{name} mode: {_first_line(error)}")
        else:
            return
    raise _without_derivatives(reasons)


def _without_derivatives(reasons: list[str]) -> ValueError:
    return ValueError(
        "tuning.along=closed needs derivatives of classifier and generator, which these models do not give ("
        + "; ".join(reasons)
        + "): expected models without no_grad, detach and rounding; take along=faithful or along=pattern"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
