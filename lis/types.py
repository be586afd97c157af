"""What the parts of `lis` promise each other: one Protocol per kind of model.

Symbols follow Wehrheim et al. 2024: `z` is a latent draw, `c` a class, `w` a style code of the generator, `r` the
activations of a classifier's penultimate layer, `w̃` what a link predicts from `r`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self, overload, runtime_checkable

import torch
from torch import Tensor, nn

from lis.streams import Stream

Layers = bool | Collection[str]
"""Which feature maps are asked for: all, none, or those of some layers."""
Images = Tensor | tuple[Tensor, dict[str, Tensor]]
"""Images, alone or with the maps of layers by name."""
Edits = Mapping[str, Callable[[Tensor], Tensor]]
"""By layer what its map `[n, channels, h, h]` is replaced by: a function of it, out of place, that keeps its shape."""


@runtime_checkable
class Generator(Protocol):
    """Turns named random samples into style codes, and style codes into images."""

    domain: str
    """The world that its images show (`partworld`, `imagenet`, `faces`, …): default weights follow it."""
    class_names: tuple[str, ...]
    """Names of the classes that can be asked for; empty when the class is drawn inside."""
    num_classes: int
    """`len(class_names)`; 0 for a generator without classes."""
    w_dim: int
    resolution: int
    """Height and width of an image in pixels."""
    mean_w: Tensor
    """Mean style code per class, `[max(num_classes, 1), w_dim]`: the target of truncation."""
    fingerprint: str
    """SHA-256 over weights and settings: equal fingerprints give equal images."""

    def sample(self, class_index: int | None, indices: Tensor, stream: Stream, truncation: float = 1.0) -> Tensor:
        """Style codes `[n, w_dim]` of the samples `indices [n]` (int64) of a class in a stream.

        The k-th sample of a class is the same whatever the batch, shard or device. `class_index` is None exactly when
        `num_classes` is 0.
        """
        ...

    @overload
    def synthesize(self, w: Tensor, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize(self, w: Tensor, features: Literal[True] | Collection[str]) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize(self, w: Tensor, features: Layers = False) -> Images:
        """Images `[n, 3, H, W]` in [-1, 1] of style codes `w [n, w_dim]`.

        With `features` also the layers' maps `[n, channels, h, h]` by name, in order: those of all layers, or, given
        names, of these. Fewer cost less time and memory.
        """
        ...


@runtime_checkable
class Counterparts(Protocol):
    """What a generator with classes may offer beside `Generator`: a sample of one class as it looks in another."""

    def counterpart(
        self, class_index: int, indices: Tensor, stream: Stream, target: int, truncation: float = 1.0
    ) -> Tensor:
        """Style codes `[n, w_dim]` of the samples `indices [n]` of a class: the same z, with the class `target`.

        Where both classes are equal, what `sample` gives (supplement S8).
        """
        ...


@runtime_checkable
class Editable(Protocol):
    """What a generator may offer beside `Generator`: images whose maps are edited on the way (Bau et al. 2020).

    One that offers nothing is edited by `lis.generators.editing`.
    """

    @overload
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize_edited(
        self, w: Tensor, edits: Edits, features: Literal[True] | Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize_edited(self, w: Tensor, edits: Edits, features: Layers = False) -> Images:
        """As `synthesize`, with the map of every layer in `edits` replaced by `edit(map)` before it is passed on.

        An edit sees all n images at once, and the map as `features` gives it: without margins, edges on those of the
        image. w, class and noise are those of `synthesize`, which it equals bit by bit without edits. Maps that are
        asked for are the edited ones.

        Raises:
            ValueError: an unknown layer, or an edit gives another shape.
        """
        ...


@runtime_checkable
class Classifier(Protocol):
    """A convolutional network cut at the input of its last linear layer.

    It may also have a `domain`, the world of the images that it was trained on, as `Generator.domain`: generators that
    show another one are then refused (`classifier.domain` overrides it). Where the whole model can be called, that
    gives the logits of images; nothing in `lis` needs it.
    """

    class_names: tuple[str, ...]
    units: int
    """Width of the penultimate layer."""
    layers: dict[str, nn.Module]
    """Convolutions by name, in the order in which an image passes them; each gives `[n, channels, h, w]`."""
    cam_layer: str | None
    """Module of the network with the last map `[n, channels, h, w]` that a convolution made; None without one."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings."""
        ...

    def features(self, image: Tensor) -> Tensor:
        """Penultimate activations `r [n, units]` of images `[n, 3, H, W]` in [-1, 1]; resizes and normalises itself."""
        ...

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, classes]` of `r [n, units]`; `head(features(x))` equals the whole model."""
        ...


@runtime_checkable
class ReadsStyle(Protocol):
    """What a classifier may be beside `Classifier`: one that sees the style code behind an image, not the image.

    Its `features` have no images to read and raise ValueError (`require_sight`).
    """

    def features_of_style(self, w: Tensor) -> Tensor:
        """Activations `r [n, units]` of style codes `w [n, w_dim]`."""
        ...


def encode(classifier: Classifier, generator: Generator, w: Tensor, image: Tensor | None = None) -> Tensor:
    """r `[n, units]` of the images of style codes, whatever the classifier reads.

    Args:
        classifier: where it `ReadsStyle` it is given w, and no image is made for it.
        generator: makes the images, on whose device w lies.
        w: `[n, w_dim]`.
        image: the images of w `[n, 3, H, W]` in [-1, 1], where they are made already.
    """
    if isinstance(classifier, ReadsStyle):
        return classifier.features_of_style(w)
    return classifier.features(generator.synthesize(w) if image is None else image)


def require_sight(classifier: Classifier, what: str) -> None:
    """Check that a classifier sees pictures.

    Args:
        classifier: the classifier.
        what: what its sight is needed for, as a message's beginning.

    Raises:
        ValueError: it reads style codes, which `what` has none of.
    """
    if isinstance(classifier, ReadsStyle):
        raise ValueError(
            f"{what}: {type(classifier).__name__} reads the style codes behind images, expected a classifier that sees "
            "pictures; use classifier.read=image, or another classifier"
        )


@runtime_checkable
class Segmenter(Protocol):
    """Finds the parts of an image from the generator's own feature maps."""

    labels: tuple[str, ...]
    """Names of the parts; label k of a mask is `labels[k - 1]`, 0 is background."""
    size: int
    """Height and width of a mask in pixels."""
    layers: tuple[str, ...]
    """Names of the maps that it reads."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings."""
        ...

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """Logits `[n, 1 + labels, size, size]`, channel 0 background, of the maps of its layers."""
        ...


class Finder(Protocol):
    """Finds the parts of images in the generator's feature maps."""

    @property
    def layers(self) -> Literal[True] | Collection[str]:
        """The layers whose maps it reads; True: all."""
        ...

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """Masks `[n, h, w]` int64, 0 the background."""
        ...


@runtime_checkable
class Link(Protocol):
    """A map from `r [n, units]` to `w̃ [n, w_dim]`."""

    def __call__(self, r: Tensor) -> Tensor:
        """Predicted style codes `w̃ [n, w_dim]` of activations `r [n, units]`."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Finds where the points of one image lie in another."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings."""
        ...

    @property
    def layers(self) -> Literal[True] | Collection[str]:
        """Names of the generator's maps that `view` reads; empty: none, True: all."""
        ...

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """What is matched of images `[n, 3, H, W]` in [-1, 1]: `[n, 3 + channels, H, W]` float32, the image first.

        `maps` are those of `layers` at least, as `synthesize` gives them; a matcher that reads none returns the image.
        """
        ...

    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """Of n pairs of views `[n, 3 + channels, H, W]`, one by one: what is found lies on the CPU.

        The views lie on the run's device; a matcher that computes elsewhere moves them. Images that cannot be matched
        get a field of NaN and a reason, never an exception.
        """
        ...


@dataclass(frozen=True)
class Matches:
    """Points of image 1 and where they lie in image 2; x to the right, y down, whole numbers at pixel centres."""

    xy1: Tensor
    """`[n, 2]` float32, pixels of image 1."""
    xy2: Tensor
    """`[n, 2]` float32, pixels of image 2."""
    score: Tensor
    """`[n]` float32; larger is surer."""

    @classmethod
    def none(cls) -> Self:
        """No match at all."""
        return cls(torch.empty(0, 2), torch.empty(0, 2), torch.empty(0))

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, chosen: Tensor) -> Matches:
        """Those that an index or mask `[n]` chooses."""
        return Matches(self.xy1[chosen], self.xy2[chosen], self.score[chosen])

    @property
    def displacement(self) -> Tensor:
        """xy2 − xy1 `[n, 2]`."""
        return self.xy2 - self.xy1

    def to(self, device: torch.device | str) -> Matches:
        """On a device."""
        return Matches(self.xy1.to(device), self.xy2.to(device), self.score.to(device))


@dataclass(frozen=True)
class Correspondence:
    """Of one pair of images, on the CPU."""

    matches: Matches
    """Single points; may be none."""
    field: Tensor
    """Displacement (x, y) of every pixel of image 1, `[H, W, 2]` float32, pixels: pixel p lies at p + field[p] in
    image 2. NaN everywhere where matching failed."""
    reason: str = ""
    """Why there is no field; empty where there is one."""

    @classmethod
    def failed(cls, shape: tuple[int, int], reason: str, matches: Matches | None = None) -> Self:
        """No field `[H, W, 2]` for `shape` (H, W), and why."""
        return cls(matches or Matches.none(), torch.full((*shape, 2), torch.nan), reason)


def pixel_grid(height: int, width: int) -> Tensor:
    """Positions (x, y) of all pixels, `[height, width, 2]` float32.

    Example:
        >>> pixel_grid(1, 3).tolist()
        [[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]]
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).float()
