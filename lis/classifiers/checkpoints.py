"""Reads weights from files, without executing anything that is in them, and puts them into a network."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lis.files import load_safetensors
from lis.pickles.records import NeedsCode
from lis.pickles.torch_files import read_torch

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs keep a state dict."""
PREFIXES = ("module.", "model.", "net.", "backbone.", "_orig_mod.")
"""What wrappers put before every name: DataParallel, Lightning, a classifier around its backbone, torch.compile."""
EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)", re.IGNORECASE)
"""A key or prefix of averaged weights: `state_dict_ema`, `model_ema.module.`."""
BEFORE_AVERAGING = "current_model_state"
"""Where Lightning's `WeightAveraging` keeps the raw weights; its `state_dict` holds the averaged ones."""
TRAINING = re.compile(
    r"n_averaged|acc|(?:train|val|valid|validation|test)_acc.*"
    r"|.*(?:criterion|loss|metric|accuracy|auroc|f1|confusion|precision|recall).*"
)
"""Parts that a training program keeps beside its network: `criterion`, `n_averaged`, the states of metrics."""
SIGNATURES: dict[str, str] = {
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
MAX_NAME, MAX_NAMES, MAX_COPIES = 1000, 2**22, 16
"""Characters of a tensor's name and of all names together, and prefixes under which a network may lie, at most: a file
must not make a search among its names take longer than reading it."""
_COUNTER = "num_batches_tracked"
"""Batch norm's counter, which old files do not have and evaluation does not use."""
AUXILIARY = re.compile(r"(?:.+\.)?(?:AuxLogits|aux1|aux2)\..+")
"""The heads that GoogLeNet and Inception v3 have for training alone."""
BACKBONE = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
"""A ResNet's children that have weights, in order, without the head."""
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_IP_IRM = re.compile(r"(?:module\.)*f\.(?:module\.)*(\d{1,3})\.(.+)")


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
        with path.open("rb") as file:
            start = file.read(9)
        content = load_safetensors(path) if start[8:] == b"{" else read_torch(path)  # 8 bytes of length, then JSON
    except NeedsCode as error:
        raise ValueError(
            f"{path} cannot be read: it holds {error.name}, which only executing code would restore. Expected tensors "
            "alone; where you trust the file, write its state_dict into a file of its own"
        ) from error
    except Exception as error:  # a damaged file fails in any of a dozen ways
        raise ValueError(f"{path} cannot be read ({_reason(error)}): {remedy}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}: {remedy}")
    return dict(content)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, and what was chosen among them.

    Args:
        path: the file, for messages.
        state: the tensors.
        ema: where there are raw and averaged weights, the averaged ones are taken.
        notes: what was taken and what was left out, for log and report.
    """

    path: Path
    state: dict[str, Tensor]
    ema: bool = True
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, ema: bool = True) -> Checkpoint:
        """What lies in a file, freed of the keys that training programs put around it and of torch.compile's names.

        Raises:
            ValueError: as `read_file`; there are no tensors in it, or no raw ones for `ema=False`.
        """
        content = read_file(path)
        state, notes = _unwrapped(content, ema, path)
        if not state:
            raise ValueError(
                f"{path} has the keys {some(content)}: expected tensors by name, or a mapping of them under "
                f"{' or '.join(map(repr, WRAPPERS))}"
            )
        _require_short_names(path, state)
        return cls(path, {name.replace("_orig_mod.", ""): value for name, value in state.items()}, ema, notes)

    def fitted(self, names: Collection[str]) -> Checkpoint:
        """The tensors under the names of a network, where one prefix yields all of them; what is left out is noted.

        Left out are names outside of this prefix, and what `TRAINING` tells of. Names that the network could have and
        does not know stay: a file of a deeper network of the family is not this network's.

        Args:
            names: those of the network, in order; batch norm's counters may be missing from the file.

        Raises:
            ValueError: several prefixes yield all names, with different weights; or no raw ones do for `ema=False`.

        Example:
            >>> state = {"net.fc.bias": torch.zeros(2), "loss.weight": torch.ones(2)}
            >>> checkpoint = Checkpoint(Path("mine.pth"), state).fitted(["fc.bias"])
            >>> list(checkpoint.state), checkpoint.notes
            (['fc.bias'], ('mine.pth: what is not the network was left out: loss.weight',))
        """
        requested = [name for name in names if not name.endswith(_COUNTER)]
        prefix, copies, notes = self._prefix(requested)
        known = {part for name in names for part in name.split(".")}
        beside = tuple(copy for copy in copies if not prefix.startswith(copy))
        around = {copy + name for copy in copies if copy not in beside for name in names}
        # Of a copy, `notes` tells.
        others = [name for name in self.state if name not in around and not name.startswith(beside)]
        inside = [name for name in others if name.startswith(prefix) and not _of_training(name, prefix, known)]
        state = {name.removeprefix(prefix): self.state[name] for name in inside}
        if any(name not in state for name in requested):  # they are to be translated, or belong to another network
            state = without_prefixes(state)
        taken = set(inside)
        if left_out := [name for name in others if name not in taken]:
            notes = (*notes, f"{self.path.name}: what is not the network was left out: {_listed(left_out, 8)}")
        return replace(self, state=state, notes=self.notes + notes)

    def renamed(self, state: Mapping[str, Tensor]) -> Checkpoint:
        """The same with tensors under other names."""
        return replace(self, state=dict(state))

    def load(self, network: nn.Module, outputs: int) -> tuple[str, ...]:
        """Put the tensors into a network as `load_state` does; returns its remarks behind those of this file."""
        return self.notes + load_state(network, self.state, self.path, outputs)

    def _prefix(self, requested: Collection[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """The prefix that yields all wanted names, "" if none does; other such; a note where some are averaged."""
        result = sorted(prefixes(self.state, requested), key=len)
        if len(result) > MAX_COPIES:
            raise ValueError(
                f"{self.path} holds the network's names under {len(result)} prefixes ({some(result)}): expected "
                "one network; write its state_dict into a file of its own"
            )
        averaged, raw = [p for p in result if EMA.search(p)], [p for p in result if not EMA.search(p)]
        notes = _choice(self.path, self.ema, averaged[0], raw[0] if raw else None) if averaged else ()
        chosen = averaged if self.ema and averaged else raw
        for other in chosen[1:]:
            pairs = [(self.state[chosen[0] + name], self.state[other + name]) for name in requested]
            if not all(torch.equal(a, b) for a, b in {(id(a), id(b)): (a, b) for a, b in pairs if a is not b}.values()):
                raise ValueError(
                    f"{self.path} holds the network's names under {chosen[0]!r} and under {other!r}, with different "
                    "weights: expected one network; write the state_dict of the one that you mean into a file of its "
                    "own"
                )
        prefix = next(iter(chosen), "")
        return prefix, tuple(other for other in result if other != prefix), notes


def prefixes(names: Collection[str], requested: Collection[str]) -> list[str]:
    """Every prefix under which there are all of the wanted names.

    Example:
        >>> prefixes(["net.fc.bias", "net.fc.weight", "fc.bias"], ["fc.weight", "fc.bias"])
        ['net.']
    """
    first = next(iter(requested), None)
    if first is None:
        return []
    starts = [name.removesuffix(first) for name in names if name.endswith(first)]
    return [p for p in starts if p[-1:] in ("", ".") and all(p + name in names for name in requested)]


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the `PREFIXES` that all of its names begin with.

    Example:
        >>> list(without_prefixes({"module.model.fc.bias": torch.zeros(1), "module.model.fc.weight": torch.zeros(1)}))
        ['fc.bias', 'fc.weight']
    """
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: Path, outputs: int) -> tuple[str, ...]:
    """Put the weights that were read from `path` into a network; floats of another precision are converted.

    A head with one logit l is read as two classes with the logits 0 and l: softmax([0, l]) is (1 − σ(l), σ(l)).

    Args:
        network: takes the weights.
        state: tensors under the network's names; batch norm's counters may be missing.
        path: for messages.
        outputs: number of classes that the network was built for.

    Returns:
        Remarks for log and report.

    Raises:
        ValueError: missing or unknown names, another number of classes, other shapes, or values that are not finite.
    """
    expected = network.state_dict()
    _require_names(path, state, expected)
    heads = _heads(state, expected, outputs)
    notes: tuple[str, ...] = ()
    if heads and outputs == 2 and all(len(value) == 1 for value in heads.values()):
        state = {**state, **{name: torch.cat([torch.zeros_like(value), value]) for name, value in heads.items()}}
        notes = (f"{path.name} has one logit: it is that of the second class, and the first has the logit 0",)
    _require_outputs(path, _heads(state, expected, outputs), outputs)
    require_shapes(path, state, {name: value for name, value in expected.items() if name in state})
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise ValueError(
            f"{path} holds values that are not finite in {len(broken)} tensors ({_listed(broken)}): expected numbers; "
            "the training diverged or the file is damaged, take another one"
        )
    network.load_state_dict(expected | dict(state))
    return notes


def require_shapes(path: Path, state: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Check that the state has a tensor of the right shape under every expected name.

    Raises:
        ValueError: it has not.
    """
    for name, value in expected.items():
        result = state.get(name)
        shape = tuple(result.shape) if isinstance(result, Tensor) else "nothing"
        if shape != tuple(value.shape):
            raise ValueError(f"{path} has {shape} under {name!r}: expected {tuple(value.shape)}; take the right file")


def some(names: Collection[Any]) -> str:
    """The first few of many names, for messages."""
    return ", ".join(f"{str(name)!r:.80}" for name in islice(names, 4)) or "nothing"


def _reason(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _require_short_names(path: Path, names: Collection[str]) -> None:
    longest, total = max(map(len, names)), sum(map(len, names))
    if longest > MAX_NAME or total > MAX_NAMES:
        raise ValueError(
            f"{path} has names of up to {longest} characters, {total} in all: expected at most {MAX_NAME} and "
            f"{MAX_NAMES}, as networks have them"
        )


def _require_names(path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    unknown = [name for name in state if name not in expected]
    if not missing and not unknown:
        return
    parts = [f"{len(missing)} of {len(expected)} tensors are missing ({_listed(missing)})"] if missing else []
    parts += [f"{len(unknown)} have names that it does not know ({_listed(unknown)})"] if unknown else []
    architecture = next(
        (kind for part, kind in SIGNATURES.items() if _has(part, state) and not _has(part, expected)), None
    )
    hint = (
        f"this looks like {architecture}"
        if architecture
        else "it was made for another architecture or by another library"
    )
    raise ValueError(
        f"{path} does not fit the network: {', '.join(parts)}; {hint}; set classifier.library and classifier.model to "
        "what the file was made with"
    )


def _heads(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], outputs: int) -> dict[str, Tensor]:
    """The tensors of the head, where it is the number of classes alone that is wrong; none in any other case."""
    wrong = {name: value for name, value in state.items() if value.shape != expected[name].shape}
    pairs = [(value, expected[name]) for name, value in wrong.items()]
    heads = [a for a, b in pairs if a.ndim and b.ndim and b.shape[0] == outputs and a.shape[1:] == b.shape[1:]]
    return wrong if len(heads) == len(pairs) and len({len(head) for head in heads}) == 1 else {}


def _require_outputs(path: Path, heads: Mapping[str, Tensor], outputs: int) -> None:
    if not heads:
        return
    count = len(next(iter(heads.values())))
    remedy = f"set classifier.num_classes={count}"
    if count == 1:
        remedy = "set classifier.num_classes=2 (one logit is read as two classes, of which the first has the logit 0)"
    raise ValueError(
        f"{path} has {count} outputs, the network was to have {outputs} classes: {remedy}, or take a file with "
        f"{outputs}"
    )


def _unwrapped(content: Mapping[Any, Any], ema: bool, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, which may lie under one of `WRAPPERS` or under a key of averaged weights."""
    notes: tuple[str, ...] = ()
    while True:
        averaged, raw = _keys(content, path, ema)
        if averaged:
            bare = raw or ("" if _tensors(content) else None)  # as yet unwrapped, the raw ones may lie around it
            notes += _choice(path, ema, averaged, bare)
        key = averaged if averaged and ema else raw
        if not key:
            return _tensors(content), notes
        content = content[key]


def _keys(content: Mapping[Any, Any], path: Path, ema: bool) -> tuple[str | None, str | None]:
    """Where averaged and raw weights lie; None where there are none, or where they lie open."""
    raw = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if raw and isinstance(content.get(BEFORE_AVERAGING), Mapping):
        return raw, BEFORE_AVERAGING
    seen: set[int] = set()  # a file can show one mapping under any number of keys
    for key in (key for key in content if EMA.search(str(key)) and isinstance(content[key], Mapping)):
        if not _is_new(content[key], seen):
            continue
        if _holds_tensors(content[key]) or any(isinstance(content[key].get(inner), Mapping) for inner in WRAPPERS):
            return key, raw
        if ema and any(_holds_tensors(value) for value in content[key].values() if _is_new(value, seen)):
            raise ValueError(
                f"{path} holds averaged weights under {key!r} without names, {some(content[key])}: expected tensors by "
                "name; classifier.ema=false takes the raw weights"
            )
    return None, raw


def _choice(path: Path, ema: bool, averaged: str, raw: str | None) -> tuple[str]:
    """A note about raw and averaged weights; `raw` is None where there are only averaged ones."""
    if raw is None and not ema:
        raise ValueError(
            f"classifier.ema=false: {path} holds averaged (EMA) weights alone, under {averaged!r}: expected raw ones "
            "too; leave it out"
        )
    where = f"the averaged (EMA) weights under {averaged!r}" if ema else f"the raw weights {_under(raw)}"
    other = f"the raw ones {_under(raw)}" if ema else f"the averaged (EMA) ones under {averaged!r}"
    beside = "" if raw is None else f", not {other} (classifier.ema={str(not ema).lower()} takes those)"
    return (f"{path.name}: {where} were taken{beside}",)


def _under(key: str | None) -> str:
    return f"under {key!r}" if key else "beside them"


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _holds_tensors(value: Any) -> bool:
    inner: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(isinstance(item, Tensor) for item in inner)


def _is_new(value: Any, seen: set[int]) -> bool:
    """Whether a value was not yet seen; it then is."""
    before = len(seen)
    seen.add(id(value))
    return len(seen) > before


def _of_training(name: str, prefix: str, known: Collection[str]) -> bool:
    """Whether a name tells of something that only training has, and the network has no part of that name."""
    parts = name.removeprefix(prefix).split(".")
    return any(TRAINING.fullmatch(part) and part not in known for part in parts)


def _has(part: str, names: Collection[str]) -> bool:
    return any(part in name for name in names)


def _listed(names: Collection[str], most: int = 3) -> str:
    return ", ".join(name[:80] for name in islice(names, most)) + (", …" if len(names) > most else "")


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of torchvision: DenseNet's old `norm.1` becomes `norm1`, auxiliary heads are left out.

    Example:
        >>> list(torchvision_names({"features.denseblock1.denselayer1.conv.2.weight": 0, "aux1.conv.weight": 0}))
        ['features.denseblock1.denselayer1.conv2.weight']
    """
    retained = {name: value for name, value in state.items() if not AUXILIARY.fullmatch(name)}
    return {_DENSE.sub(r"\1\2.", name): value for name, value in retained.items()}


def in_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A file with names of its own whose tensors stand in the order of a network's, under the network's names.

    The last part of every name (`weight`, `running_mean`, …) and every shape have to agree.

    Args:
        state: the tensors of the file, in its order.
        expected: those of the network, in order.
        path: the file, for messages.

    Raises:
        ValueError: another number of tensors, or the first that does not agree.

    Example:
        >>> list(in_order({"_fc.bias": torch.ones(2)}, {"classifier.bias": torch.zeros(2)}, Path("net.pth")))
        ['classifier.bias']
    """
    if len(state) != len(expected):
        raise ValueError(
            f"{path} has {len(state)} tensors and the network {len(expected)}: expected as many, in the same order; "
            "take the right file"
        )
    for (name, value), (key, other) in zip(state.items(), expected.items(), strict=True):
        if name.rpartition(".")[2] != key.rpartition(".")[2] or value.shape != other.shape:
            raise ValueError(
                f"{path} has {name!r} {tuple(value.shape)} where the network has {key!r} {tuple(other.shape)}: "
                "expected its tensors in the same order; take the right file"
            )
    return dict(zip(expected, state.values(), strict=True))


def ip_irm_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A file of IP-IRM (Wang et al. 2021): the ResNet-50 below `f.`, under torchvision's names.

    There the children of a ResNet without its `fc` are numbered, those without weights too: `f.4.0.conv1.weight` is
    `layer1.0.conv1.weight`. The projection below `g.` is left out.

    Raises:
        ValueError: there is no such backbone, or it is the one for images of 32 pixels.
    """
    result = [(match, value) for name, value in state.items() if (match := _IP_IRM.fullmatch(name))]
    children = sorted({int(match[1]) for match, _ in result})
    if len(children) != len(BACKBONE):
        raise ValueError(
            f"{path} has {some(state)}, and {len(children)} parts with weights below 'f.': expected the format of "
            f"IP-IRM, f.0.weight … f.7.2.bn3.bias, with the {len(BACKBONE)} of a ResNet-50; take such a file"
        )
    part = dict(zip(children, BACKBONE, strict=True))
    backbone = {f"{part[int(match[1])]}.{match[2]}": value for match, value in result}
    stem = backbone.get("conv1.weight")
    if stem is not None and stem.shape[-1] == 3:
        raise ValueError(
            f"{path} begins with a 3×3 convolution, IP-IRM's network for CIFAR and STL: expected the one for ImageNet, "
            "which begins with 7×7; take that checkpoint"
        )
    return backbone
