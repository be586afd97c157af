"""StyleGAN-XL as a `Generator`: classes and named samples to style codes, style codes to images."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import asdict
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor, nn

from lis import passes
from lis.costs import Cost
from lis.fingerprint import Fingerprint
from lis.generators.layers import require_class
from lis.generators.stylegan_xl.geometry import GeneratorSpec
from lis.generators.stylegan_xl.mapping import Mapping
from lis.generators.stylegan_xl.synthesis import Synthesis, laid_out
from lis.streams import Stream
from lis.types import Edits, Images, Layers

log = logging.getLogger(__name__)


class StyleGANXL(nn.Module):
    """The generator of Sauer et al. 2022. It has no weights until they are loaded.

    Args:
        spec: its geometry.
        class_names: one per class, in order; None: `class_0`, `class_1`, ….
        domain: the world that its images show.
        truncation: what `sample` uses when it is not told; 1 keeps w, 0 gives the mean of the class.
        dtype: `float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone.
        compile: `on`, `off`, or `auto`: resampling is compiled where there is a compiler. The images are the same.

    Raises:
        ValueError: as many names as classes are not given, or a setting is out of range.

    Example:
        >>> from lis.generators.stylegan_xl import imagenet256
        >>> generator = StyleGANXL(imagenet256())
        >>> sum(p.numel() for p in generator.parameters()), generator.num_ws, generator.resolution
        (166267046, 32, 256)
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        class_names: Sequence[str] | None = None,
        domain: str = "images",
        truncation: float = 1.0,
        dtype: str = "float32",
        compile: str = "auto",
    ) -> None:
        super().__init__()
        if not 0 <= truncation <= 1:
            raise ValueError(f"gan.truncation must lie in [0, 1], got {truncation}")
        self.spec, self.domain, self.truncation = spec, domain, truncation
        self._fingerprint = Fingerprint()
        self.num_classes, self.num_ws = spec.mapping.c_dim, spec.mapping.num_ws
        self.z_dim, self.w_dim, self.resolution = spec.mapping.z_dim, spec.mapping.w_dim, spec.synthesis.resolution
        names = [f"class_{i}" for i in range(self.num_classes)] if class_names is None else class_names
        if len(names) != self.num_classes:
            raise ValueError(f"{len(names)} class names for {self.num_classes} classes: give one per class (gan.names)")
        self.class_names = tuple(names)
        with torch.device("meta"):
            self.mapping = Mapping(spec.mapping)
            self.synthesis = Synthesis(spec.synthesis, dtype, compile)
        self.requires_grad_(False).eval()

    def load(self, tensors: MappingType[str, Tensor]) -> StyleGANXL:
        """Take the weights and buffers of a checkpoint, under the names of the authors' program; returns itself.

        Raises:
            ValueError: a tensor is missing or has another shape than the geometry says.
        """
        expected = self.state_dict()
        wrong = [
            f"{name} is {list(tensors[name].shape) if name in tensors else 'missing'}, expected {list(value.shape)}"
            for name, value in expected.items()
            if name not in tensors or tensors[name].shape != value.shape
        ]
        if wrong:
            raise ValueError(
                f"{len(wrong)} tensors do not fit the geometry, such as {wrong[0]}: is it another network's?"
            )
        if unused := [name for name in tensors if name not in expected]:
            log.warning("%d tensors are not used, such as %s", len(unused), unused[0])
        self.load_state_dict({name: laid_out(tensors[name]) for name in expected}, assign=True)
        return self.requires_grad_(False)

    @property
    def mean_w(self) -> Tensor:
        """Mean style code per class, `[max(num_classes, 1), w_dim]`."""
        return self.mapping.w_avg.view(-1, self.w_dim)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over geometry, precision and weights; writing through `.data` goes unseen."""
        return self._fingerprint(self.state_dict(), json.dumps([asdict(self.spec), self.synthesis.dtype]))

    def transform(self, matrix: Tensor) -> None:
        """Shift, rotate or scale all images from now on: `matrix [3, 3]` leads from the image to where it is read.

        Raises:
            ValueError: another shape.
        """
        if matrix.shape != (3, 3):
            raise ValueError(f"the transform has shape {list(matrix.shape)}, expected [3, 3]")
        self.synthesis.input.transform.copy_(matrix)

    def sample(
        self, class_index: int | None, indices: Tensor, stream: Stream, truncation: float | None = None
    ) -> Tensor:
        """Style codes `[n, w_dim]` of the samples `indices [n]` of a class (None: a generator without classes).

        w' = w̄ + ψ (w − w̄) with w̄ the mean of the class and ψ the truncation; all layers get the same w'.

        Raises:
            ValueError: the class does not exist, or a class is asked of a generator without classes.
        """
        require_class(class_index, self.num_classes)
        return self._mapped(stream.normal(class_index, indices, self.z_dim), class_index, truncation)

    def counterpart(
        self, class_index: int, indices: Tensor, stream: Stream, target: int, truncation: float | None = None
    ) -> Tensor:
        """Style codes `[n, w_dim]` of the samples `indices [n]` of a class with the same z and another class's c.

        Raises:
            ValueError: one of the classes does not exist.
        """
        require_class(class_index, self.num_classes)
        require_class(target, self.num_classes)
        return self._mapped(stream.normal(class_index, indices, self.z_dim), target, truncation)

    def _mapped(self, z: Tensor, class_index: int | None, truncation: float | None) -> Tensor:
        z = z.to(self.mean_w.device)
        classes = None if class_index is None else torch.full((len(z),), class_index, device=z.device)
        return self.mapping(z, classes, self.truncation if truncation is None else truncation)[:, 0]

    def reference_samples(
        self,
        seed: int,
        n: int,
        class_index: int | None = None,
        truncation: float = 1.0,
        centroids: Tensor | None = None,
    ) -> Tensor:
        """ws `[n, num_ws, w_dim]` as the authors' program draws them: z, and classes if none is given, from the seed.

        Args:
            seed: of NumPy's legacy generator (MT19937), made anew for z and for the classes.
            n: number of samples; another n gives other samples only after the common ones for z, but not for classes.
            class_index: None draws the class of each sample, or leaves it out where there are none.
            truncation: ψ.
            centroids: `[k, w_dim]`, of which the nearest takes the place of the mean of the class.
        """
        z = torch.from_numpy(np.random.RandomState(seed).randn(n, self.z_dim)).to(self.mean_w)
        classes = None
        if self.num_classes:
            drawn = np.random.RandomState(seed).randint(self.num_classes, size=n)
            classes = torch.from_numpy(drawn if class_index is None else np.full(n, class_index)).long().to(z.device)
        return self.mapping(z, classes, truncation, centroids=centroids)

    def weight_bytes(self, device: torch.device) -> int:
        """Bytes of the weights as a device computes with them: a CPU also keeps its kernels in Winograd's form."""
        weights = {name: value.numel() * value.element_size() for name, value in self.state_dict().items()}
        kernels = sum(layer.weight.numel() for layer in self.synthesis.layers if layer.spec.kernel == 3)
        return sum(weights.values()) + (4 * kernels * 16 // 9 if device.type == "cpu" else 0)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers whose maps `synthesize` gives, in order."""
        return self.synthesis.layer_names

    def cost(self, layers: Layers = False) -> Cost:
        """What one image with the maps of these layers takes on a GPU; nothing is made: see `lis.costs.Priced`.

        Example:
            >>> from lis.generators.stylegan_xl import imagenet256
            >>> round(StyleGANXL(imagenet256()).cost().peak / 2**20)
            1316
        """
        return self.synthesis.cost(layers)

    @overload
    def synthesize(self, w: Tensor, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesize(self, w: Tensor, features: Literal[True] | Collection[str]) -> tuple[Tensor, dict[str, Tensor]]: ...
    def synthesize(self, w: Tensor, features: Layers = False) -> Images:
        """Images `[n, 3, H, W]` in [-1, 1] of `w [n, w_dim]`; with `features` also the maps, without margins.

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

        Margins are not edited, so that what lies just outside the image still enters its edge.

        Raises:
            ValueError: an unknown layer, or an edit that gives another shape.
        """
        passes.add(len(w))
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if features is False:
            return self.synthesis(ws, edits=edits).clamp(-1, 1)
        image, maps = self.synthesis(ws, features=features, edits=edits)
        return image.clamp(-1, 1), self.synthesis.crop(maps)
