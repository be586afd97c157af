"""The few-shot segmenter: generator feature maps → logits of every part (paper §3.2, supplement S4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lis.fingerprint import Fingerprint
from lis.segmentation.networks import Projection, Stack, five, resized, three

NETWORKS = ("projected", "three", "five")


class FewShotSegmenter(nn.Module):
    """Convolutions on some of a generator's maps: made again by `FewShotSegmenter(**settings)` and `load_state_dict`.

    Args:
        labels: names of the parts.
        size: height and width in pixels that the maps are read at.
        layers: names of the maps that are read.
        widths: channels of each.
        network: `projected`, `three` or `five`.
        channels: with `projected`, what the maps are projected to.
        hidden: channels between three convolutions.
        enlarge: how many times finer a mask is: the logits are interpolated, so that a border lies between pixels.

    Raises:
        ValueError: no label, no layer, or an unknown network.

    Example:
        >>> segmenter = FewShotSegmenter(["cap", "stem"], 8, ["a", "b"], [4, 2], enlarge=2)
        >>> tuple(segmenter({"a": torch.rand(5, 4, 4, 4), "b": torch.rand(5, 2, 16, 16)}).shape)
        (5, 3, 16, 16)
    """

    def __init__(
        self,
        labels: Sequence[str],
        size: int,
        layers: Sequence[str],
        widths: Sequence[int],
        network: str = "projected",
        channels: int = 32,
        hidden: int = 64,
        enlarge: int = 1,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"segmenter.network={network}: expected one of {', '.join(NETWORKS)}")
        if not labels or not layers:
            raise ValueError(f"{len(labels)} labels and {len(layers)} layers: expected one or more of each")
        self.labels, self.size, self.layers = tuple(labels), size * enlarge, tuple(layers)
        self.settings: dict[str, Any] = {"labels": list(labels), "size": size, "layers": list(layers)}
        self.settings |= {"widths": list(widths), "network": network, "channels": channels, "hidden": hidden}
        self.settings |= {"enlarge": enlarge}
        self.reader = Projection(widths, channels, size) if network == "projected" else Stack(widths, size)
        inputs, outputs = self.reader.outputs, 1 + len(labels)
        self.head = five(inputs, outputs) if network == "five" else three(inputs, hidden, outputs)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: the stubs lack it
        self._fingerprint = Fingerprint()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings."""
        return self._fingerprint(self.state_dict(), json.dumps(self.settings))

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `[n, 1 + labels, size, size]`, channel 0 background, of maps `[n, channels, h, w]` by layer.

        Raises:
            ValueError: a layer is missing, or has another number of channels.
        """
        self._check(maps)
        return resized(self.head(self.reader([maps[name] for name in self.layers])), self.size)

    def _check(self, maps: Mapping[str, Tensor]) -> None:
        for name, width in zip(self.layers, self.settings["widths"], strict=True):
            if name not in maps or maps[name].shape[1] != width:
                found = f"has {maps[name].shape[1]} channels" if name in maps else "is missing"
                raise ValueError(
                    f"the map {name!r} {found}, expected {width} channels: this segmenter was trained on the maps of "
                    "another generator"
                )
