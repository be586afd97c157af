"""PUMP's ConvMixer: its shape, a slower way to compute it, and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from lis.matching.convmixer import MEAN, STD, ConvMixer, ConvMixerDescriptor

SMALL = {"channels": 6, "hidden": 8, "depth": 2, "patch": 4, "kernel": 5}


def small(seed: int = 0) -> ConvMixer:
    torch.manual_seed(seed)
    network = ConvMixer(**SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval().requires_grad_(False)


def renamed(network: ConvMixer) -> dict[str, Tensor]:
    """Its tensors as another program may name them, in the same order."""
    named = enumerate(network.state_dict().items())
    return {f"module.part{99 - k}.{name.rsplit('.', 1)[1]}": value for k, (name, value) in named}


def test_the_published_size() -> None:
    """Parameters by hand: patches, 7 × (depthwise + mixing), each with two of batch norm, and the way back."""
    with torch.device("meta"):
        network = ConvMixer()
    count = sum(value.numel() for value in network.parameters())
    block = (512 * 81 + 512 + 2 * 512) + (512 * 512 + 512 + 2 * 512)
    assert count == (3 * 16 * 512 + 512 + 2 * 512) + 7 * block + (512 * 128 * 16 + 128)


def test_equal_to_loops_over_patches() -> None:
    network, image = small(), torch.rand(1, 3, 12, 8)
    state = {name.split(".", 1)[1] if name.startswith("first") else name: v for name, v in network.state_dict().items()}

    def normed(x: Tensor, prefix: str) -> Tensor:
        x = F.gelu(x)
        mean, var, weight, bias = (state[f"{prefix}2.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * weight[:, None, None] + bias[
            :, None, None
        ]

    x = torch.empty(8, 3, 2)
    for i in range(3):
        for j in range(2):
            patch = image[0, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            x[:, i, j] = (state["0.weight"] * patch).sum((1, 2, 3)) + state["0.bias"]
    x = normed(x, "")
    for block in (0, 2):
        name = f"blocks.{block}.mixed."
        padded, spread = F.pad(x, (2, 2, 2, 2)), torch.empty_like(x)
        for i in range(3):
            for j in range(2):
                window = padded[:, i : i + 5, j : j + 5]
                spread[:, i, j] = (window * state[f"{name}0.weight"][:, 0]).sum((1, 2)) + state[f"{name}0.bias"]
        x = x + normed(spread, name)
        mixed = torch.einsum("oi,ihw->ohw", state[f"blocks.{block + 1}.0.weight"][:, :, 0, 0], x)
        x = normed(mixed + state[f"blocks.{block + 1}.0.bias"][:, None, None], f"blocks.{block + 1}.")
    out = torch.empty(6, 12, 8)
    for i in range(12):
        for j in range(8):
            out[:, i, j] = state["last.weight"][:, :, i % 4, j % 4].T @ x[:, i // 4, j // 4] + state["last.bias"]
    torch.testing.assert_close(network(image)[0], out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_weights_come_from_a_file_whatever_its_names(kind: str, tmp_path: Path) -> None:
    network, file = small(), tmp_path / "weights"
    if kind == "torch":
        torch.save({"state_dict": renamed(network), "epoch": 3}, file)
    else:
        save_file(network.state_dict(), file)  # this format keeps names, but no order
    found = ConvMixerDescriptor(str(file), ConvMixer(**SMALL))
    image = torch.rand(2, 3, 15, 18) * 2 - 1
    first, second = found(image, image)
    plain = (image + 1) / 2
    expected = network((plain - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])
    assert first.shape == (2, 6, 15, 18)
    torch.testing.assert_close(first, F.normalize(expected))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(2, 15, 18))
    assert torch.equal(first, second)


def test_another_file_has_another_fingerprint(tmp_path: Path) -> None:
    prints = []
    for seed in (0, 1):
        save_file(small(seed).state_dict(), tmp_path / "weights")
        prints.append(ConvMixerDescriptor(str(tmp_path / "weights"), ConvMixer(**SMALL)).fingerprint)
    assert prints[0] != prints[1]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file"):
        ConvMixerDescriptor(str(tmp_path / "missing"))
    torch.save(renamed(small()), tmp_path / "small")
    with pytest.raises(ValueError, match=r"has 32 tensors, the network 92: expected PUMP's ConvMixer .128 numbers"):
        ConvMixerDescriptor(str(tmp_path / "small"))
    other = renamed(small())
    other["module.part99.weight"] = torch.zeros(8, 3, 2, 2)
    torch.save(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"has \(8, 3, 2, 2\) under .*where \(8, 3, 4, 4\) belongs"):
        ConvMixerDescriptor(str(tmp_path / "other"), ConvMixer(**SMALL))
