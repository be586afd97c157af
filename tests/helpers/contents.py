"""The contents of every analysis at smoke size, and how they are compared with those of an earlier version.

`python -m tests.helpers.contents write` writes the reference, `tests/data/contents/<job>.json.gz`;
`tests/test_contents.py` compares with it. A change that is meant is written anew, with the version of its stage raised;
what only has another name goes into `RENAMES`, and the reference stays as it is.

The address of a leaf says what it is:

- `stage: tuning / units.parquet / step`: a column of a table;
- `stage: link / link.safetensors / weight`: a tensor. Up to `WHOLE` numbers it is whole, as is a column. Of a larger
  one of integers it is the SHA-256; of floats how many are NaN, the extremes, the norm, and the products with
  `PROJECTIONS` fixed directions (Gaussian, of unit variance), divided by the norm;
- `stage: link / fit.json / samples`: a fact;
- `metric: class_kept`: a number of the run;
- `page: 2 / lead`: what the third section of the page says; `page: top / title`.

Not in here: pixels of figures, times, paths, shards, and every size but smoke.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor

from lis import build
from lis.classifiers.classifier import ready
from lis.config import conf_folder
from lis.context import Context
from lis.images import to_uint8
from lis.report.metrics import attempt_metrics
from lis.report.page import abstract, headline, limits, title
from lis.report.section import Section, build_sections
from lis.report.source import Source, source
from lis.stage import REGISTRY
from lis.stages import register
from lis.store import Artifact, Draft, Recipe, Store
from lis.streams import Stream
from lis.validation import typed

REFERENCE = Path(__file__).parents[1] / "data" / "contents"
SMALL = (
    "size=smoke",
    "evaluation.lpips=false",
    "device=cpu",
    "threads=1",
    "training.precision=float32",  # `auto` follows the processor
)
PICTURES = "<pictures>"
"""In a job's overrides: the folder that `write_pictures` fills."""
ANALYSES: dict[str, tuple[str, ...]] = {
    "demo": (),
    "link": (),
    "similarity": (),
    "strips": (),
    "segmentation": (),
    "units": (),
    "truth": (),
    "motion": (),
    "matching": (),
    "counterfactual": (),
    "counterfactual_truth": (),
    "gan_counterfactual": (),
    "unit": ("unit=12", "class_name=pug"),
    "direction": ("direction='pc:1'", "class_name=pug"),
    "images": (f"images={PICTURES}",),
    "planted": ("classifier=planted", "classifier.per_kind=4"),
    "importance": (),
    "dissect": ("dissect.permutations=199",),
    "texture": (),
    "dissect_gan": (),
    "bridge": (
        *("classifier=detectors", "classifier.per_part=1", "classifier.unplanted=4", "pairs.accept=any"),
        *("pairs.train=20", "pairs.test=10", "dissect.samples=10"),
    ),
}
"""Every file of `conf/analysis`, with what it needs besides."""
JOBS: dict[str, tuple[str, ...]] = {
    **{name: (f"analysis={name}", *more) for name, more in ANALYSES.items()},
    "boundary": ("+experiment=fig7",),
    "left_out": ("+experiment=figS6",),
    "direction_of_classes": ("analysis=direction", "direction='classes:pug-chihuahua'"),
    "link_ridge": ("analysis=link", "link=ridge"),
    "link_fc_l1": ("analysis=link", "link=fc_l1"),
    "link_fc_l2": ("analysis=link", "link=fc_l2"),
    "link_fc_l2_prediction": ("analysis=link", "link=fc_l2_prediction"),
    "hard": ("analysis=link", "gan.hard=true"),
    "attributes": ("analysis=link", "classifier=partnet_attributes"),
    "training": ("+experiment=figS4", "training.images=2000"),
    "probe": ("analysis=link", "classifier.probe=true"),
    "motion_pump": ("analysis=motion", "matcher=pump", "unit=12"),
    "fungi": ("analysis=unit_statistics", "classes=fungi"),
}
"""Overrides of every run, in the words of the reference: `RENAMES["config"]` applies to them."""
AS_NOW = ("own", "others", "more", "reached", "head_kept", "control_length")
"""Metrics of units that are newer than the rename of their stage."""
RENAMES: dict[str, dict[str, str]] = {
    "stage": {
        "strips": "traversal",
        "units": "unit_statistics",
        "boundary-truth": "boundary_truth",
        "gan-counterfactuals": "gan_counterfactuals",
        "sparse-counterfactuals": "sparse_counterfactuals",
    },
    "table": {
        "strips/strips": "traversal",
        "units/honesty": "faithfulness",
        "units/label_sparsity_null": "label_sparsity_control",
        "units/relevance_null": "relevance_control",
        "motion/shown": "examples",
        "adversarial/shown": "examples",
        "gan-counterfactuals/shown": "examples",
        "trajectories/kinks": "jumps",
    },
    "column": {
        "realised": "reencoded_share",
        "p_null": "p_control",
        "strips/ranking/shown": "selected",
        "unit/steps/own": "projection",
        "direction/steps/own": "projection",
        "gan-counterfactuals/tuned/shown": "example",
    },
    "tensor": {
        "strips/strips": "traversal",
        "tuning/null": "control",
        "walk": "traversal",
        "walk/own": "projection",
        "realised": "reencoded_share",
        "motion/shown": "examples",
        "adversarial/shown": "examples",
        "gan-counterfactuals/shown": "examples",
    },
    "json": {},
    "fact": {"names.null": "names.control", "realised": "reencoded_share"},
    "value": {},
    "metric": {
        "units/realised": "unit_statistics/reencoded_share",
        **{f"units/{name}": f"units/{name}" for name in AS_NOW},
    },
    "config": {
        "analysis=strips": "analysis=traversal",
        "analysis=units": "analysis=unit_statistics",
        "analysis=counterfactual": "analysis=counterfactuals",
        "analysis=counterfactual_truth": "analysis=boundary_truth",
        "analysis=gan_counterfactual": "analysis=gan_counterfactuals",
        "tuning.null_directions": "tuning.control_directions",
    },
    "text": {
        "honesty": "faithfulness",
        "kink": "jump",
        "realised": "re-encoded share",
        "strips": "traversals",
        "tables/units/ranking": "tables/unit_statistics/ranking",
    },
}
"""Old → new, by kind, applied to the reference.

- `stage` as in the store (`boundary-truth`); `table` and `json` name a file without ending, `tensor` a file of tensors
  or a tensor; `column`, `fact` (its last key, or its whole dotted name), `metric` what they say. Any of these may be
  qualified by what it lies in, in old names: `tuning/units/step` for a column, `tuning/units` for a table.
- `value`: a string that a table or a fact holds.
- `config`: a whole override (`analysis=link`), a group, or a key; also in texts.
- `text`: whole words of the page: titles, leads, captions, cells, names of figures.
"""
SKIPPED = frozenset(("seconds",))
"""Columns and facts that differ from run to run."""
DURATION = re.compile(r"\b\d[\d.,]* (ms|s)\b")
"""What a page says of them."""
WHOLE = 2000
"""Numbers of a tensor that is written whole."""
PROJECTIONS = 8
TOLERANCE = 1e-5
"""Of the largest magnitude of a column, tensor or list; of a lone number its own."""
PROJECTED = 3e-6
"""Of a projection. A change by 1e-5 of the norm moves each by 1e-5 times a normal deviate: that all eight stay below
this has a probability of 1e-5."""
ROUNDING = "rounding.json"
"""How the machine rounds that wrote the reference."""
DIGITS = 8
"""Significant digits of the largest number of a list in a reference."""

Leaf = Any
"""A number, a string, a list of these, or `{"dtype": …, "shape": …, …}`."""
Contents = dict[str, Leaf]
"""Leaves by address."""


class Recorder(Store):
    """A store that remembers what was asked of it, shards excepted: `asked`, by key."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: dict[str, Artifact] = {}

    def make(self, recipe: Recipe, build: Callable[[Draft], None]) -> Artifact:
        """As the store does."""
        artifact = super().make(recipe, build)
        if not recipe.stage.endswith("-shard"):
            self.asked[artifact.key] = artifact
        return artifact


def collect(
    root: Path, names: Iterable[str] = tuple(JOBS), overrides: Sequence[str] = (), store: Path | None = None
) -> dict[str, Contents]:
    """Run jobs one after the other in this process, on one store, and collect what each is the first to hold.

    Args:
        root: an empty folder, for the store and some pictures.
        names: of `JOBS`.
        overrides: of all of them, such as another batch size.
        store: another one, where others work as well.

    Returns:
        Contents by job.

    Raises:
        AssertionError: the numbers of a stage failed.
    """
    done: set[str] = set()
    threads = torch.get_num_threads()
    (root / "pictures").mkdir(parents=True)
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
            register()
            return {name: _job(root, JOBS[name], overrides, done, store or root / "store") for name in names}
    finally:
        torch.set_num_threads(threads)


def _job(root: Path, job: Sequence[str], more: Sequence[str], done: set[str], folder: Path) -> Contents:
    wanted = [_config(override).replace(PICTURES, str(root / "pictures")) for override in (*SMALL, *job)]
    ctx = build.context(typed(compose("config", [*wanted, *more, f"store={folder}"])))
    ctx = dataclasses.replace(ctx, store=(store := Recorder(folder)))
    if ctx.config.images:
        write_pictures(ctx, root / "pictures")
    ctx, artifacts = ready(ctx)
    artifacts |= {stage: REGISTRY[stage](ctx) for stage in ctx.config.analysis.stages}
    contents: Contents = {}
    for artifact in store.asked.values():
        if artifact.key not in done:
            _add(contents, artifact_contents(artifact))
    done.update(store.asked)
    metrics, failed = attempt_metrics(artifacts)
    assert not failed, failed
    _add(contents, {f"metric: {name}": value for name, value in metrics.items()})
    _add(contents, page_contents(source(ctx, artifacts)))
    return {address: plain(leaf) for address, leaf in contents.items()}


def _add(contents: Contents, more: Contents) -> None:
    twice = contents.keys() & more.keys()
    assert not twice, f"two artifacts of a job hold {sorted(twice)[0]!r}"
    contents |= more


def write_pictures(ctx: Context, folder: Path) -> None:
    """Two generated images, and one of half of the size, as files."""
    for index in range(2):
        w = ctx.generator.sample(index, torch.arange(1), Stream("views", 1))
        image = Image.fromarray(to_uint8(ctx.generator.synthesize(w))[0].permute(1, 2, 0).numpy())
        image.save(folder / f"{index}.png")
        image.resize((image.width // 2, image.height // 2)).save(folder / "small.png")


def artifact_contents(artifact: Artifact) -> Contents:
    """Every column, tensor and fact of an artifact."""
    contents: Contents = {}
    for file in map(Path, artifact.manifest["files"]):
        if file.suffix == ".parquet":
            table = artifact.table(file.stem)
            leaves = {str(name): column(table[name].to_numpy()) for name in table.columns}
        elif file.suffix == ".safetensors":
            leaves = {name: tensor(value) for name, value in artifact.tensors(file.stem).items()}
        else:
            assert file.suffix == ".json", f"{file} is neither tensors nor a table nor JSON"
            leaves = dict(_facts(artifact.json(file.stem)))
        prefix = f"stage: {artifact.manifest['recipe']['stage']} / {file} / "
        contents |= {prefix + name: leaf for name, leaf in leaves.items() if name.rpartition(".")[2] not in SKIPPED}
    return contents


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, Leaf]]:
    """Dotted names of a JSON object's leaves."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _facts(inner, f"{name}.{key}" if name else key)
    else:
        yield name or "whole", value


def column(values: np.ndarray) -> Leaf:
    """A column of a table, with the kind of its dtype (`O` is text)."""
    return {"dtype": values.dtype.kind} | _values(values)


def tensor(value: Tensor) -> Leaf:
    """A tensor, with its dtype and shape."""
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)} | _values(value.numpy())


def _values(array: np.ndarray) -> dict[str, Leaf]:
    """Whole or in short, as the head of this file says."""
    if array.size <= WHOLE or array.dtype.kind == "O":
        return {"values": array.ravel().tolist()}
    if array.dtype.kind != "f":
        return {"sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}
    return _in_short(array.ravel().astype(np.float64))


def _in_short(array: np.ndarray) -> dict[str, Leaf]:
    missing = np.isnan(array)
    array = np.where(missing, 0.0, array)
    assert np.isfinite(array).all(), "an infinite number in a large tensor"
    norm = float(np.linalg.norm(array))
    short: dict[str, Leaf] = {"nan": int(missing.sum()), "extremes": [float(array.min()), float(array.max())]}
    if missing.any():
        short["nan_sha256"] = hashlib.sha256(np.packbits(missing).tobytes()).hexdigest()
    return short | {"norm": norm, "projections": _projections(array / (norm or 1.0))}


def _projections(array: np.ndarray, block: int = 2**16) -> list[float]:
    """Products with fixed Gaussian directions, which a prefix of the array does not change."""
    rng, total = np.random.Generator(np.random.Philox(0)), np.zeros(PROJECTIONS)
    for start in range(0, array.size, block):
        total += rng.standard_normal((PROJECTIONS, block))[:, : array.size - start] @ array[start : start + block]
    return total.tolist()


def page_contents(run: Source) -> Contents:
    """Every text of a page but its settings; figures are built and not drawn."""
    numbers = [[number.label, number.value, number.detail] for number in headline(run)]
    top = {"title": title(run), "abstract": abstract(run), "headline": numbers, "limits": limits(run)}
    sections = build_sections(run)
    plt.close("all")
    contents: Contents = {f"page: top / {name}": leaf for name, leaf in top.items()}
    contents["page: top / sections"] = [section.title for section in sections]
    for index, section in enumerate(sections):
        contents |= {f"page: {index} / {name}": leaf for name, leaf in _section(section).items()}
    return _each_text(contents, lambda text: DURATION.sub(r"… \1", text))


def _section(section: Section) -> Contents:
    contents: Contents = {"title": section.title, "lead": section.lead, "notes": list(section.notes)}
    contents["figures"] = [[picture.name, picture.kind, picture.caption] for picture in section.figures]
    for index, table in enumerate(section.tables):
        best = sorted(map(list, table.best))
        contents[f"table {index}"] = [table.caption, list(table.columns), *map(list, table.rows), best]
    return contents


def plain(leaf: Leaf) -> Leaf:
    """The leaf as JSON gives it back: lists for tuples, "nan" and "inf" as text, floats rounded to `DIGITS`, as many
    as the largest of their list has.
    """
    if isinstance(leaf, Mapping):
        return {key: plain(value) for key, value in leaf.items()}
    if isinstance(leaf, (list, tuple, np.ndarray)):
        largest = max((abs(x) for x in leaf if isinstance(x, float) and math.isfinite(x)), default=0.0)
        return [_rounded(x, largest) if isinstance(x, float) else plain(x) for x in leaf]
    if isinstance(leaf, float):
        return _rounded(leaf, abs(leaf))
    if isinstance(leaf, np.generic):
        return plain(leaf.item())
    assert leaf is None or isinstance(leaf, (str, bool, int)), f"{leaf!r} is neither a number nor text"
    return leaf


def _rounded(value: float, largest: float) -> Leaf:
    if not math.isfinite(value):
        return str(float(value))
    return round(float(value), DIGITS - 1 - math.floor(math.log10(largest))) if largest else 0.0


def renamed(contents: Contents, renames: Mapping[str, Mapping[str, str]] | None = None) -> Contents:
    """The reference in new names.

    Args:
        contents: in old names.
        renames: as `RENAMES`, which is the default.
    """
    renames = RENAMES if renames is None else renames
    words = {**renames["config"], **renames["text"]}
    new: Contents = {}
    for address, leaf in contents.items():
        kind, _, name = address.partition(": ")
        if kind == "stage":
            leaf = _each_text(leaf, lambda text: renames["value"].get(text, text))
            name = " / ".join(_renamed_parts(name.split(" / ", 2), renames))
        elif kind == "metric":
            stage, slash, rest = name.partition("/")
            name = renames["metric"].get(name, renames["stage"].get(stage, stage) + slash + rest)
        else:
            leaf = _each_text(leaf, lambda text: in_words(text, words))
        new[f"{kind}: {name}"] = leaf
    return new


def _renamed_parts(parts: Sequence[str], renames: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Stage, file and what is in it; the most qualified name comes first."""
    stage, (file, _, ending), name = parts[0], parts[1].rpartition("."), parts[2]
    outer, inner = {"parquet": ("table", "column"), "safetensors": ("tensor", "tensor"), "json": ("json", "fact")}[
        ending
    ]
    yield renames["stage"].get(stage, stage)
    yield f"{_first(renames[outer], f'{stage}/{file}', file)}.{ending}"
    last = name.rpartition(".")[2]
    whole = _first(renames[inner], f"{stage}/{file}/{name}", f"{file}/{name}", name)
    yield whole if whole != name or ending != "json" else name.removesuffix(last) + renames[inner].get(last, last)


def _first(names: Mapping[str, str], *keys: str) -> str:
    """The new name of the first key that has one, else the last key."""
    return next((names[key] for key in keys if key in names), keys[-1])


def in_words(text: str, words: Mapping[str, str]) -> str:
    """The text with whole words replaced, the longest first, all at once.

    Example:
        >>> in_words("a unit's walk, walked", {"walk": "traversal"})
        "a unit's traversal, walked"
    """
    if not words:
        return text
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?<!\w)({listed})(?!\w)", lambda match: words[match[1]], text)


def _config(override: str) -> str:
    """An override in new names."""
    words, (key, equals, value) = RENAMES["config"], override.partition("=")
    return words.get(override, f"{words.get(key, key)}{equals}{value}")


def _each_text(leaf: Leaf, change: Callable[[str], str]) -> Leaf:
    if isinstance(leaf, Mapping):
        return {key: _each_text(value, change) for key, value in leaf.items()}
    if isinstance(leaf, list):
        return [_each_text(value, change) for value in leaf]
    return change(leaf) if isinstance(leaf, str) else leaf


def differences(reference: Contents, contents: Contents) -> list[str]:
    """What of the contents is not as in the reference, a line each, with its address.

    Args:
        reference: in new names.
        contents: of the same job now.
    """
    lost = [f"{address}: is gone" for address in reference if address not in contents]
    new = [f"{address}: is new" for address in contents if address not in reference]
    both = (
        (address, _difference(leaf, contents[address])) for address, leaf in reference.items() if address in contents
    )
    return [*lost, *new, *(f"{address}: {what}" for address, what in both if what)]


def rounds_alike() -> bool:
    """Whether this machine rounds as the one that the reference was written on.

    On others, even with the same libraries, sums differ in their last bits, which the training of a segmenter makes
    differences of 1e-3.
    """
    return rounding() == json.loads((REFERENCE / ROUNDING).read_text())


def rounding() -> dict[str, str]:
    """The libraries, and a digest of the bits that this machine computes with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bits = hashlib.sha256(b"".join(_bits())).hexdigest()
    finally:
        torch.set_num_threads(threads)
    return {"torch": torch.__version__, "numpy": np.__version__, "bits": bits}


def _bits() -> Iterator[bytes]:
    """Of some products and convolutions with their gradients in float32; float64's last bits are far below 1e-5."""
    rng = np.random.Generator(np.random.Philox(1))
    for channels, side in ((3, 64), (16, 32), (64, 8)):
        image = torch.from_numpy(rng.standard_normal((5, channels, side, side), np.float32))
        weight = torch.from_numpy(rng.standard_normal((16, channels, 3, 3), np.float32)).requires_grad_()
        answer = torch.nn.functional.conv2d(image, weight, padding=1)
        (gradient,) = torch.autograd.grad(answer.square().sum(), weight)
        product = image.flatten(1) @ image.flatten(1).T
        for result in (answer.detach(), gradient, product, image.flatten(1)[:, :999].softmax(1)):
            yield result.numpy().tobytes()


def outline(contents: Contents) -> Contents:
    """Addresses, dtypes and shapes alone: what can be compared on every processor."""
    named = {address: leaf if isinstance(leaf, Mapping) else {} for address, leaf in contents.items()}
    return {address: {key: leaf.get(key) for key in ("dtype", "shape")} for address, leaf in named.items()}


def _difference(old: Leaf, new: Leaf, tolerance: float = TOLERANCE, scale: float | None = None) -> str:
    """What differs, in words; empty where nothing does."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _mapping_difference(old, new)
    if _is_numeric(old) and _is_numeric(new) and isinstance(old, list):
        return _list_difference(old, new, tolerance, scale)
    if _is_float(old) and _is_float(new):
        return _list_difference([old], [new], tolerance, scale)
    return "" if type(old) is type(new) and old == new else _both(old, new)


def _mapping_difference(old: Mapping[str, Leaf], new: Mapping[str, Leaf]) -> str:
    if old.keys() != new.keys():
        return _both(list(old), list(new))
    for key, value in old.items():
        limits = (PROJECTED, 1.0) if key == "projections" else (TOLERANCE, None)
        if what := _difference(value, new[key], *limits):
            return f"{key}: {what}"
    return ""


def _list_difference(old: Sequence[Leaf], new: Sequence[Leaf], tolerance: float, scale: float | None) -> str:
    """Of numbers: NaN and infinity at the same indices, all else within the tolerance of the largest magnitude."""
    if len(old) != len(new):
        return f"{len(old)} values → {len(new)}"
    before, after = np.array(old, dtype=np.float64), np.array(new, dtype=np.float64)
    finite = np.isfinite(before)
    with np.errstate(invalid="ignore"):  # inf − inf, which is not looked at
        distance = np.abs(after - before)
    bound = tolerance * (np.abs(before[finite]).max(initial=0.0) if scale is None else scale)
    wrong = np.where(
        finite,
        ~(distance <= bound),
        [str(a) != str(b) for a, b in zip(old, new, strict=True)],
    )
    if not wrong.any():
        return ""
    index = int(wrong.nonzero()[0][0])
    return f"{int(wrong.sum())} of {len(old)} values, the first at {index}: {_both(old[index], new[index])}"


def _is_float(leaf: Leaf) -> bool:
    return isinstance(leaf, float) or leaf in ("nan", "inf", "-inf")


def _is_numeric(leaf: Leaf) -> bool:
    """Whether a list holds floats; whole numbers among them are those that JSON had no point for."""
    return isinstance(leaf, list) and any(map(_is_float, leaf)) and all(_is_float(x) or type(x) is int for x in leaf)


def _both(old: Leaf, new: Leaf) -> str:
    """Cut to where the two part."""
    before, after = (json.dumps(leaf, ensure_ascii=False) for leaf in (old, new))
    same = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, same - 60)
    return f"{before[start : same + 80]} → {after[start : same + 80]}"


def read(name: str) -> Contents:
    """The reference of a job, in new names."""
    return renamed(json.loads(gzip.decompress((REFERENCE / f"{name}.json.gz").read_bytes())))


def write(contents: Mapping[str, Contents], folder: Path = REFERENCE) -> None:
    """Write the reference of every job, and remove those of jobs that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json.gz"):
        file.unlink()
    for name, leaves in contents.items():
        text = json.dumps(leaves, ensure_ascii=False, allow_nan=False, indent=0, separators=(",", ":"))
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def write_rounding() -> None:
    """Write down how this machine rounds, beside the reference."""
    (REFERENCE / ROUNDING).write_text(json.dumps(rounding(), indent=1) + "\n")


def main() -> None:
    """`python -m tests.helpers.contents write`."""
    if sys.argv[1:] != ["write"]:
        sys.exit("usage: python -m tests.helpers.contents write")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(collect(Path(folder)))
    write_rounding()


if __name__ == "__main__":
    main()
