"""Part world as a `Generator`: named samples, generated images, and the truth behind every w."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lis import passes
from lis.config import PartWorldConfig
from lis.generators.layers import requested_layers, require_class
from lis.generators.partworld.displacement import displacement
from lis.generators.partworld.network import StyleNetwork
from lis.generators.partworld.world import SETS, W_DIM, set_of, world
from lis.streams import Stream
from lis.types import Edits, Images, Layers

WEIGHTS = Path(__file__).parent / "weights"
_MEAN_SAMPLES = 4096


class PartWorld(nn.Module):
    """The generator of one set of part world (dogs, fungi or birds).

    Args:
        class_names: classes of the run; they choose the set where `figures` does not.
        hard: w = A·φ(u) with a fixed nonlinear φ; the images are the same, their order in W is not linear.
        conditional: False gives a generator without classes, which draws the class of a sample inside.
        truncation: what `sample` uses when it is not told.
        figures: the set. A generator without classes then leaves the names of the run's classes to the classifier.

    Raises:
        ValueError: an unknown set or class, classes of different sets or of another set than `figures`, or a truncation
            outside [0, 1].

    Example:
        >>> generator = PartWorld(["pug"])
        >>> w = generator.sample(1, torch.arange(3), Stream("train pairs"))
        >>> tuple(generator.synthesize(w).shape)
        (3, 3, 64, 64)
    """

    mean_w: Tensor
    domain = "partworld"

    def __init__(
        self,
        class_names: Sequence[str],
        hard: bool = PartWorldConfig.hard,
        conditional: bool = PartWorldConfig.conditional,
        truncation: float = PartWorldConfig.truncation,
        figures: str | None = PartWorldConfig.figures,
    ) -> None:
        super().__init__()
        if not 0 <= truncation <= 1:
            raise ValueError(f"gan.truncation must lie in [0, 1], got {truncation}")
        self.world = world(_find_set(class_names, figures, conditional), hard)
        self.conditional, self.truncation = conditional, truncation
        self.class_names = self.world.class_names if conditional else ()
        self.num_classes = len(self.class_names)
        self.w_dim, self.resolution = W_DIM, 64
        self.labels, self.factor_names = self.world.figures.labels, self.world.figures.factor_names
        path = WEIGHTS / f"generator_{self.world.figures.name}.safetensors"
        self.network = StyleNetwork(len(self.factor_names))
        self.network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        self.network.to(memory_format=torch.channels_last)  # in which a CPU convolves twice as fast
        self.requires_grad_(False).eval()
        settings = f"{self.world.identity}|{conditional}".encode()
        self.fingerprint = hashlib.sha256(path.read_bytes() + settings).hexdigest()
        self.register_buffer("mean_w", self._mean_w())

    def sample(
        self, class_index: int | None, indices: Tensor, stream: Stream, truncation: float | None = None
    ) -> Tensor:
        """Style codes `[n, 64]` of the samples `indices [n]` of a class (None: a generator without classes).

        w' = w̄ + ψ (w − w̄) with w̄ the mean of the class and ψ the truncation.

        Raises:
            ValueError: the class does not exist, or a class is asked of a generator without classes.
        """
        require_class(class_index, self.num_classes)
        draws = stream.normal(class_index, indices, len(self.factor_names) + 1)
        z, which = draws[:, :-1], class_index
        if which is None:
            which = (torch.special.ndtr(draws[:, -1]) * len(self.world.class_names)).long()
        return self._truncated(self.world.to_w(self.world.factors_of(z, which)), class_index, truncation)

    def counterpart(
        self, class_index: int, indices: Tensor, stream: Stream, target: int, truncation: float | None = None
    ) -> Tensor:
        """Style codes `[n, 64]` of the samples `indices [n]` of a class with the same z, as figures of another class.

        Raises:
            ValueError: one of the classes does not exist.
        """
        require_class(class_index, self.num_classes)
        require_class(target, self.num_classes)
        z = stream.normal(class_index, indices, len(self.factor_names) + 1)[:, :-1]
        return self._truncated(self.world.to_w(self.world.factors_of(z, target)), target, truncation)

    def _truncated(self, w: Tensor, class_index: int | None, truncation: float | None) -> Tensor:
        psi, mean = self.truncation if truncation is None else truncation, self.mean_w[class_index or 0]
        return mean + psi * (w.to(mean.device) - mean)

    @overload
    def synthesize(self, w: Tensor, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize(self, w: Tensor, features: Literal[True] | Collection[str]) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize(self, w: Tensor, features: Layers = False) -> Images:
        """Images `[n, 3, 64, 64]` in [-1, 1] of `w [n, 64]`; with `features` also the maps of 4 … 64 px by layer.

        Raises:
            ValueError: `features` names a layer that does not exist.
        """
        return self.synthesize_edited(w, {}, features)  # pyright: ignore[reportArgumentType,reportCallIssue]

    @overload
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize_edited(
        self, w: Tensor, edits: Edits, features: Literal[True] | Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Layers = False) -> Images:
        """As `synthesize`, with the map of every layer in `edits` replaced by `edit(map)`: see `lis.types.Editable`.

        Raises:
            ValueError: an unknown layer, or an edit that gives another shape.
        """
        passes.add(len(w))
        image, maps = self.network(self.true_factors(w), edits)
        image = image.clamp(-1, 1).contiguous()
        if features is False:
            return image
        requested = requested_layers(features, list(maps))
        return image, {name: x for name, x in maps.items() if name in requested}

    def true_factors(self, w: Tensor) -> Tensor:
        """The exact latent factors `[n, factors]` of any `w [n, 64]`."""
        return self.world.to_factors(w)

    def of_factors(self, u: Tensor) -> Tensor:
        """Style codes `[n, 64]` of any latent factors `u [n, factors]`: the inverse of `true_factors`."""
        return self.world.to_w(u)

    def log_posterior(self, w: Tensor) -> Tensor:
        """Log probability `[n, classes]` of every class of the set given `w [n, 64]`, for equal priors."""
        return self.world.log_posterior(self.true_factors(w))

    def class_factors(self, class_index: int) -> Tensor:
        """Mean factors `[factors]` of a class."""
        return self.world.means[class_index]

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The true picture of any w: image `[n, 3, 64, 64]` in [-1, 1], part masks `[n, labels, 64, 64]` in [0, 1]."""
        return self.world.figures.render(self.true_factors(w), self.resolution)

    def displacement(self, w: Tensor, moved: Tensor) -> Tensor:
        """How far the point in every pixel of the pictures of `w [n, 64]` lies away in those of `moved [n, 64]`.

        `[n, 64, 64, 2]` pixels, to the right and down; NaN where that is not known (`displacement.py`).
        """
        return displacement(self.world.figures, self.true_factors(w), self.true_factors(moved), self.resolution)

    def _mean_w(self) -> Tensor:
        """Mean w per class over a fixed draw; one row over all classes for a generator without classes."""
        z = torch.randn(_MEAN_SAMPLES, len(self.factor_names), generator=torch.Generator().manual_seed(0))
        classes = range(len(self.world.class_names))
        means = torch.stack([self.world.to_w(self.world.factors_of(z, c)).mean(0) for c in classes])
        return means if self.conditional else means.mean(0, keepdim=True)


def _find_set(class_names: Sequence[str], figures: str | None, conditional: bool) -> str:
    """The set that is drawn: the one that is asked for, or the one that the classes are from."""
    if figures is not None and figures not in SETS:
        raise ValueError(
            f"gan.figures={figures}: expected one of {', '.join(SETS)}, or null for the set of the classes"
        )
    if figures is not None and not conditional:
        return figures
    try:
        known = set_of(class_names)
    except ValueError as error:
        hint = "for classes that only the classifier knows: gan.conditional=false gan.figures=<set>"
        raise ValueError(f"{error}; {hint}") from error
    if figures not in (None, known):
        raise ValueError(
            f"gan.figures={figures} and classes of {known} ({', '.join(class_names)}): expected classes of {figures} "
            f"(classes={figures}), or a generator without classes (gan.conditional=false)"
        )
    return known
