"""Reads weights from files, without executing anything that is in them, and puts them into a network."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep a state dict."""
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")
"""What wrappers put before every name: DataParallel, Lightning, a classifier around its backbone, torch.compile."""
LOOKS: dict[str, str] = {
    "encoder_q.": "MoCo",
    "f.4.0.conv1.": "IP-IRM (classifier=ip_irm)",
    "body.2.first.": "PartNet",
    "denseblock1.": "a DenseNet",
    "layer4.": "a ResNet",
    "blocks.0.attn.qkv.": "a vision transformer of timm",
    "encoder_layer_0.": "a vision transformer of torchvision",
    "stages.0.blocks.0.": "a network of timm in stages, such as ConvNeXt",
    "classifier.6.": "AlexNet or a VGG",
}
"""Part of a tensor's name → the architecture that it tells of; the first that fits counts."""
_COUNTER = "num_batches_tracked"
"""Batch norm's counter, which old files do not have and evaluation does not use."""


def read_file(path: Path, what: str = "weights") -> dict[Any, Any]:
    """The mapping in a file that `torch.save` or safetensors wrote, on the CPU; nothing in the file is executed.

    Args:
        path: the file; its content, not its name, tells the format.
        what: should be in it, for messages.

    Raises:
        ValueError: the file is missing, a folder, damaged, no mapping, or would have to be executed.
    """
    remedy = f"expected {what} as torch.save or safetensors write them; fetch the file again or correct the path"
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: {remedy}")
    try:
        content = _load(path)
    except Exception as error:  # a damaged file fails in any of a dozen ways
        if code := _code_in(error):
            raise ValueError(
                f"{path} cannot be read: it holds {code}, which only executing code would restore. Expected tensors "
                "alone; where you trust the file, write its state_dict into a file of its own"
            ) from error
        raise ValueError(f"{path} cannot be read ({_reason(error)}): {remedy}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}: {remedy}")
    return dict(content)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, freed of the wrappers that training programs put around them.

    Raises:
        ValueError: as `read_file`, or there are no tensors in it.
    """
    content = read_file(path)
    state = without_prefixes(unwrapped(content))
    if not state:
        raise ValueError(
            f"{path} has the keys {some(content)}: expected tensors by name, or a mapping of them under "
            f"{' or '.join(map(repr, WRAPPERS))}"
        )
    return state


def unwrapped(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may lie under one of `WRAPPERS`.

    Example:
        >>> unwrapped({"epoch": 3, "state_dict": {"fc.bias": torch.zeros(1)}})
        {'fc.bias': tensor([0.])}
    """
    while inner := next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None):
        content = inner
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the `PREFIXES` that all of its names begin with.

    Example:
        >>> list(without_prefixes({"module.model.fc.bias": torch.zeros(1), "module.model.fc.weight": torch.zeros(1)}))
        ['fc.bias', 'fc.weight']
    """
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: Path, outputs: int) -> None:
    """Put the weights that were read from `path` into a network; floats of another precision are converted.

    Args:
        network: takes the weights.
        state: tensors under the network's names; batch norm's counters may be missing.
        path: for messages.
        outputs: number of classes that the network was built for.

    Raises:
        ValueError: missing or unknown names, another number of classes, other shapes, or values that are not finite.
    """
    own = network.state_dict()
    _require_names(path, state, own)
    _require_outputs(path, state, own, outputs)
    require_shapes(path, state, {name: value for name, value in own.items() if name in state})
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise ValueError(
            f"{path} holds values that are not finite in {len(broken)} tensors ({_listed(broken)}): expected numbers; "
            "the training diverged or the file is damaged, take another one"
        )
    network.load_state_dict(own | dict(state))


def require_shapes(path: Path, state: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Check that the state has a tensor of the right shape under every expected name.

    Raises:
        ValueError: it has not.
    """
    for name, value in expected.items():
        found = state.get(name)
        shape = tuple(found.shape) if isinstance(found, Tensor) else "nothing"
        if shape != tuple(value.shape):
            raise ValueError(f"{path} has {shape} under {name!r}: expected {tuple(value.shape)}; take the right file")


def some(names: Collection[Any]) -> str:
    """The first few of many names, for messages."""
    return ", ".join(repr(str(name)) for name in list(names)[:4]) or "nothing"


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # 8 bytes of length, then JSON
        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a pickle's protocol; what cannot be read fails anyway
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _code_in(error: Exception) -> str | None:
    """What torch refused to restore; None where the file is damaged."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    if f"operand {pickle.FRAME[0]}" in str(error):
        return "a pickle of protocol 4 or later"
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found and found[1]


def _reason(error: Exception) -> str:
    """The first line of an error, without torch's advice to read the file unsafely."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return (text or type(error).__name__).splitlines()[0]


def _require_names(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    unknown = [name for name in state if name not in own]
    if not missing and not unknown:
        return
    parts = [f"{len(missing)} of {len(own)} tensors are missing ({_listed(missing)})"] if missing else []
    parts += [f"{len(unknown)} have names that it does not know ({_listed(unknown)})"] if unknown else []
    look = next((kind for part, kind in LOOKS.items() if _has(part, state) and not _has(part, own)), None)
    hint = f"this looks like {look}" if look else "it was made for another architecture or by another library"
    raise ValueError(
        f"{path} does not fit the network: {', '.join(parts)}; {hint}; set classifier.library and classifier.model to "
        "what the file was made with"
    )


def _require_outputs(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor], outputs: int) -> None:
    """Where only the leading dimension of the head differs, it is the number of classes that is wrong."""
    pairs = [(value, own[name]) for name, value in state.items() if value.shape != own[name].shape]
    heads = [f for f, o in pairs if f.ndim and o.ndim and o.shape[0] == outputs and f.shape[1:] == o.shape[1:]]
    if pairs and len(heads) == len(pairs) and len({len(head) for head in heads}) == 1:
        raise ValueError(
            f"{path} has {len(heads[0])} outputs, the network was to have {outputs} classes: set "
            f"classifier.num_classes={len(heads[0])}, or take a file with {outputs}"
        )


def _has(part: str, names: Collection[str]) -> bool:
    return any(part in name for name in names)


def _listed(names: Collection[str]) -> str:
    return ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
