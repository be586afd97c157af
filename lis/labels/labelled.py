"""Labelled images: drawn from the run's own streams, with the masks that a person, or the generator, gave them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.context import Context
from lis.images import to_uint8
from lis.labels.manifest import STREAMS
from lis.labels.reading import Labelled, read
from lis.streams import Stream

NO_PARTS = "classes.labels is empty, so that there are no parts to find"
"""Why a stage of parts is left out."""


@dataclass(frozen=True)
class Drawn:
    """Samples of a stream, ordered by class."""

    w: Tensor
    """`[n, w_dim]` float32, on the CPU."""
    class_index: Tensor
    sample_index: Tensor


def draw(ctx: Context, split: str, count: int) -> Drawn:
    """The first samples of the stream of a split (`train`, `test` or `exact`): `count` in all, evenly from the classes.

    From a generator without classes all are of one source, and their class index is 0.
    """
    generator, stream = ctx.generator, Stream(STREAMS[split], ctx.config.seed)
    names = ctx.class_names if generator.num_classes else (None,)
    positions = [None if name is None else generator.class_names.index(name) for name in names]
    indices = [torch.arange(len(part)) for part in torch.arange(count).tensor_split(len(names))]
    sources = zip(positions, indices, strict=True)
    w = [generator.sample(index, chosen, stream, ctx.config.gan.truncation).float().cpu() for index, chosen in sources]
    class_index = torch.arange(len(names)).repeat_interleave(torch.tensor([len(chosen) for chosen in indices]))
    return Drawn(torch.cat(w), class_index, torch.cat(indices))


def without_parts(ctx: Context) -> str | None:
    """Why a run does without what needs parts; None: its class set names some."""
    return None if ctx.config.classes.labels else NO_PARTS


def validate_labels(ctx: Context) -> None:
    """Checks, before any work, that there are labels to learn from; a folder is read, for the stages of the run.

    Raises:
        ValueError: no labels, a class that cannot be left out, neither a folder nor a generator that knows its parts,
            or what is wrong with the folder.
    """
    labels, left_out = ctx.config.classes.labels, ctx.config.labels.left_out
    if not labels:
        example = f", such as [{','.join(ctx.generator.labels)}]" if isinstance(ctx.generator, TrueParts) else ""
        raise ValueError(
            f"classes.labels is empty: name the parts that are to be found{example}; other analyses than of parts do "
            "without"
        )
    if left_out is not None and (left_out not in ctx.class_names or not ctx.generator.num_classes):
        known = ", ".join(ctx.class_names) if ctx.generator.num_classes else "null: the generator has no classes"
        raise ValueError(f"labels.left_out={left_out}: expected one of {known}")
    if left_out is not None and len(ctx.class_names) == 1:
        raise ValueError(f"labels.left_out={left_out} leaves no class to learn from: add another to classes.names")
    if ctx.config.labels.folder is None and not isinstance(ctx.generator, TrueParts):
        raise ValueError(
            "there are no labelled images, and this generator does not know its parts: export some with "
            "`python -m lis.labels export`, label them, and give the folder as labels.folder=…"
        )
    if ctx.config.labels.folder is not None:
        for split in ("train", *(["test"] if "segmentation" in ctx.config.analysis.stages else [])):
            _of_folder(ctx, split)


def labelled(ctx: Context, split: str, size: int) -> Labelled:
    """The labelled images of a split ("train" or "test") of every class.

    Args:
        ctx: the run; `labels.folder` chooses a person's labels instead of the generator's.
        split: which.
        size: height and width of the generator's masks in pixels; a person's have the size of the images.

    Raises:
        ValueError: as `validate_labels`.
    """
    validate_labels(ctx)
    if ctx.config.labels.folder is not None:
        return _of_folder(ctx, split)
    per_class = ctx.config.labels.train if split == "train" else ctx.config.labels.test
    return exact(ctx, draw(ctx, split, per_class * len(ctx.class_names)), size)


def _of_folder(ctx: Context, split: str) -> Labelled:
    """A split of the run's folder, which is read once as long as its content stays the same."""
    folder, labels = str(ctx.config.labels.folder), tuple(ctx.config.classes.labels)
    return _read(folder, folder_digest(folder), labels, tuple(ctx.class_names), split, ctx.generator.fingerprint)


@functools.lru_cache(maxsize=2)  # a run's two splits
def _read(
    folder: str, digest: str | None, labels: Sequence[str], class_names: Sequence[str], split: str, generator: str
) -> Labelled:
    """See `lis.labels.read`; `digest` stands for the folder's content."""
    return read(Path(folder), labels, class_names, split, generator)


@torch.no_grad()
def exact(ctx: Context, drawn: Drawn, size: int) -> Labelled:
    """Drawn samples with their images, and their exact masks of a size in pixels."""

    def pictured(w: Tensor) -> tuple[Tensor, Tensor]:
        masks = exact_masks(ctx.generator, w.to(ctx.device), ctx.config.classes.labels, size)
        return to_uint8(ctx.generator.synthesize(w.to(ctx.device))), masks.cpu()

    images, masks = zip(*ctx.images().map(pictured, drawn.w), strict=True)
    return Labelled(drawn.w, torch.cat(images), torch.cat(masks), drawn.class_index, drawn.sample_index)


def folder_digest(folder: str | None) -> str | None:
    """SHA-256 over names and contents of a folder's images, masks and manifest; None without a folder.

    Raises:
        ValueError: there is no such folder.
    """
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise ValueError(
            f"labels.folder={folder}: expected the folder that `python -m lis.labels export` wrote; it is not there"
        )
    digest = hashlib.sha256()
    files = (path for path in Path(folder).iterdir() if path.is_file() and path.suffix != ".txt")
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(os.fsencode(path.name) + f" {content}\n".encode())
    return digest.hexdigest()


@runtime_checkable
class TrueParts(Protocol):
    """A generator that knows where the parts of its images are."""

    labels: tuple[str, ...]

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The true picture `[n, 3, H, W]` of `w [n, w_dim]`, and its part masks `[n, labels, H, W]` in [0, 1]."""
        ...


def exact_masks(generator: object, w: Tensor, labels: Sequence[str], size: int) -> Tensor:
    """Masks `[n, size, size]` uint8 of `w [n, w_dim]`: the label, or background, with the largest share of a pixel.

    Raises:
        ValueError: the generator does not know its parts, or not all of the labels.
    """
    if not isinstance(generator, TrueParts):
        raise ValueError("this generator does not know its parts: expected one with `labels` and `render`")
    if unknown := [name for name in labels if name not in generator.labels]:
        raise ValueError(f"the generator has no part {unknown[0]!r}, expected some of {', '.join(generator.labels)}")
    shares = generator.render(w)[1][:, [generator.labels.index(name) for name in labels]]
    whole = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1)
    return F.adaptive_avg_pool2d(whole, size).argmax(1).to(torch.uint8)


def reduced_masks(masks: Tensor, labels: int, size: int) -> Tensor:
    """Masks `[n, size, size]` uint8 of larger ones `[n, h, w]`: the value with the largest share of a pixel.

    Example:
        >>> reduced_masks(torch.tensor([[[1, 1], [0, 2]]], dtype=torch.uint8), 2, 1).tolist()
        [[[1]]]
    """
    if masks.shape[-1] == size:
        return masks
    shares = [F.one_hot(mask.long(), 1 + labels).permute(2, 0, 1).float() for mask in masks]
    return torch.stack([F.adaptive_avg_pool2d(share, size).argmax(0) for share in shares]).to(torch.uint8)
