"""Agreement of units with concepts, streamed, against a vectorised version of the definitions: time and memory.
Ablation of single units from cached activations against whole passes: time.

    python benchmarks/bench_dissection.py [--repetitions 3] [--images 128] [--units 512] [--concepts 24] [--size 56]
    python benchmarks/bench_dissection.py --ablations 512 [--images 64] [--measured 2]
    python benchmarks/bench_dissection.py --growth 1000 4000 10000 [--units 512] [--concepts 24] [--size 28]

Maps of 7 × 7 are enlarged to `size`. The plain version holds all enlarged activations and takes exact quantiles,
average precision and AUC by sorting; lis passes twice in batches, for thresholds and for counts. Each is held against
the plain version with the same outputs: IoU alone, or all measures. Every run is a process of its own with one thread;
the methods take turns, and medians are compared. Peak memory is how far the process's peak rises during the run.

Ablations are of single units of the last map of torchvision's ResNet-50 with random weights, 224 pixels: the time of
lis is that of all of them and of recording the activations; whole passes are measured for a few units and multiplied.

With `--growth` maps and masks are drawn batch by batch, as a network would give them, and all measures are taken: how
far the peak of the process rises during the run, by the number of images.

Prints a table, and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from lis.classifiers.cut import CutClassifier
from lis.classifiers.preprocessing import Preprocessing
from lis.dissection.ablation import ablated_accuracy, balanced_class_accuracy
from lis.dissection.activations import intervene, record_activations
from lis.dissection.agreement import CURVE_LEVELS, AgreementCounts
from lis.dissection.quantiles import QuantileSketch
from lis.dissection.tails import find_layer, layer_tail
from lis.dissection.upsampling import upsample_activations
from lis.plain import print_anywhere

BATCH, LEVEL = 16, 0.99


def compare(repetitions: int, **sizes: int) -> dict[str, Any]:
    """Seconds and mebibytes of every method, their ratios to the plain one, and how far the IoU of both differ."""
    scene = _scene(**sizes | {"images": 8})
    difference = float((_iou_of_lis(*scene) - _plain(*scene)).abs().nan_to_num(0).max())
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for _ in range(repetitions):
        for name, measured in runs.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                measured.append(pool.apply(_measure, (name, sizes)))
    seconds, memory = (
        {name: statistics.median(run[k] for run in measured) for name, measured in runs.items()} for k in (0, 1)
    )
    ratio = {
        f"{name}, {what}": x[name] / x[f"plain, {name.partition(', ')[2]}"]
        for what, x in (("s", seconds), ("MiB", memory))
        for name in x
    }
    facts = {"sizes": sizes, "repetitions": repetitions, "difference": difference}
    return facts | {"median_s": seconds, "median_MiB": memory, "ratio": ratio}


def compare_growth(numbers: list[int], **sizes: int) -> list[dict[str, float]]:
    """Seconds and mebibytes of all measures by the number of images, each in a process of its own."""
    rows = []
    for images in numbers:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, mebibytes = pool.apply(_measure_growth, (images, sizes))
        rows.append({"images": images, "s": seconds, "MiB": mebibytes})
        print(f"{images:8} images{seconds:10.1f} s{mebibytes:10.1f} MiB", flush=True)
    return rows


def _measure_growth(images: int, sizes: dict[str, int]) -> tuple[float, float]:
    torch.set_num_threads(1)

    def batches(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        return (_scene(BATCH, seed=k, **sizes) for k in range(-(-number // BATCH)))

    _stream(lambda: batches(BATCH), curves=True)  # what is loaded once
    before, start = _peak(), time.perf_counter()
    _stream(lambda: batches(images), curves=True)
    return time.perf_counter() - start, _peak() - before


def compare_ablation(ablations: int, images: int, measured: int) -> dict[str, Any]:
    """Seconds of single-unit ablations from cached activations, and by whole passes of `measured` of the units."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [f"{k}" for k in range(1000)]
    network = CutClassifier(
        resnet50(weights=None), Preprocessing.as_drawn(224), names, name="ResNet-50", weights="random"
    ).eval()
    image, y = torch.rand(images, 3, 224, 224) * 2 - 1, torch.arange(images) % len(names)
    module, values = find_layer(network, None), torch.zeros(2048)
    whole_accuracy, whole = _timed(lambda: [_whole_pass(network, module, image, y, u) for u in range(measured)])
    start = time.perf_counter()
    tail = layer_tail(network, module, image[:2])
    maps = [record_activations(network.features, {"map": module}, part)["map"] for part in image.split(BATCH)]
    activations = torch.cat(maps)
    recording = time.perf_counter() - start

    def ablated(unit: int) -> Tensor:
        return ablated_accuracy(
            lambda x, rows: tail.logits(x, image[rows]), activations, y, torch.tensor([unit]), values
        )

    accuracy, cached = _timed(lambda: [ablated(u) for u in range(ablations)])
    pairs = zip(whole_accuracy, accuracy, strict=False)
    facts = {"ablations": ablations, "images": images, "whole passes measured": measured, "tail": tail.method}
    seconds = {"recording": recording, "cached": cached, "one whole pass": whole / measured}
    difference = max(float((a - b).abs().nan_to_num(0).max()) for a, b in pairs)
    ratio = whole / measured * ablations / (recording + cached)
    return facts | {"difference": difference, "seconds": seconds, "times faster": ratio}


def _timed(function: Callable[[], list[Tensor]]) -> tuple[list[Tensor], float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


@torch.no_grad()
def _whole_pass(network: CutClassifier, module: nn.Module, image: Tensor, y: Tensor, unit: int) -> Tensor:
    """Balanced accuracies of the definition: the network is passed again with the unit at zero."""
    with intervene(module, [unit], 0.0):
        return balanced_class_accuracy(torch.cat([network(part) for part in image.split(BATCH)]), y)


def _measure(name: str, sizes: dict[str, int]) -> tuple[float, float]:
    torch.set_num_threads(1)
    maps, concepts = _scene(**sizes)
    METHODS[name](maps[:1], concepts[:1])  # what is loaded once
    before, start = _peak(), time.perf_counter()
    METHODS[name](maps, concepts)
    return time.perf_counter() - start, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _scene(images: int, units: int, concepts: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rectified maps, and smooth parts of which each pixel has one, with quadrants beside them."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, units, 7, 7, generator=generator).relu()
    fields = F.interpolate(torch.randn(images, concepts, 5, 5, generator=generator), size, mode="bilinear")
    return maps, fields == fields.amax(1, keepdim=True)


def _plain(maps: Tensor, concepts: Tensor) -> Tensor:
    """IoU of the definitions."""
    values, masks = _pixels(maps, concepts)
    return _plain_iou(values, values.sort(1).values, masks)


def _plain_all(maps: Tensor, concepts: Tensor) -> Tensor:
    """IoU, Pearson's r, average precision and AUC of the definitions, the last two from every pixel in its order."""
    values, masks = _pixels(maps, concepts)
    ordered, order = values.sort(1)
    exact, truth = values.double(), masks.double()
    centred, expected = exact - exact.mean(1, keepdim=True), truth - truth.mean(1, keepdim=True)
    pearson = centred @ expected.T / (centred.norm(dim=1)[:, None] * expected.norm(dim=1))
    precision, auc = torch.empty_like(pearson), torch.empty_like(pearson)
    rank = torch.arange(1, values.shape[1] + 1)
    for unit in range(len(values)):  # a unit at once: all together take units × pixels × concepts
        hits = masks[:, order[unit].flip(0)].cumsum(1)
        positive, alarms = hits[:, -1], rank - hits
        steps = hits.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
        precision[unit] = (steps * hits / rank).sum(1) / positive
        auc[unit] = (hits * alarms.diff(dim=1, prepend=torch.zeros_like(alarms[:, :1]))).sum(1) / (
            positive * (rank[-1] - positive)
        )
    return _plain_iou(values, ordered, masks)


def _pixels(maps: Tensor, concepts: Tensor) -> tuple[Tensor, Tensor]:
    """All enlarged activations `[units, pixels]` and masks `[concepts, pixels]`."""
    size = concepts.shape[-1]
    large = F.interpolate(F.pad(maps, (1, 1, 1, 1)), 9 * size // 7, mode="bilinear")
    edge = size // 7
    return large[..., edge:-edge, edge:-edge].movedim(1, 0).flatten(1), concepts.movedim(1, 0).flatten(1)


def _plain_iou(values: Tensor, ordered: Tensor, masks: Tensor) -> Tensor:
    index = min(max(LEVEL * values.shape[1] - 0.5, 0.0), values.shape[1] - 1)
    lower, upper = ordered[:, int(index)], ordered[:, min(int(index) + 1, values.shape[1] - 1)]
    active = values > torch.lerp(lower, upper, index - int(index))[:, None]
    intersection = active.float() @ masks.float().T
    return intersection / (active.sum(1)[:, None] + masks.sum(1) - intersection)


def _stream(batches: Callable[[], Iterator[tuple[Tensor, Tensor]]], curves: bool) -> Tensor:
    """IoU of the maps and masks of two passes, with or without the bins of AUPRC and AUC."""
    units, concepts, size = next((maps.shape[1], *masks.shape[1:3]) for maps, masks in batches())
    sketch = QuantileSketch(units)
    for maps, _ in batches():
        sketch.add(upsample_activations(maps, size))
    counts = AgreementCounts(sketch.quantile(LEVEL), concepts, sketch.quantile(CURVE_LEVELS) if curves else None)
    for maps, masks in batches():
        counts.add(maps, masks)
    return counts.iou


def _split(maps: Tensor, concepts: Tensor) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    return lambda: zip(maps.split(BATCH), concepts.split(BATCH), strict=True)


def _iou_of_lis(maps: Tensor, concepts: Tensor) -> Tensor:
    return _stream(_split(maps, concepts), curves=False)


def _all_of_lis(maps: Tensor, concepts: Tensor) -> Tensor:
    return _stream(_split(maps, concepts), curves=True)


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain, IoU": _plain,
    "lis, IoU": _iou_of_lis,
    "plain, all measures": _plain_all,
    "lis, all measures": _all_of_lis,
}


def _table(result: dict[str, Any]) -> str:
    rows = [f"{'':20}{'s':>8}{'MiB':>8}{'time':>8}{'memory':>8}"]
    for name in METHODS:
        ratios = (result["ratio"][f"{name}, {what}"] for what in ("s", "MiB"))
        values = f"{result['median_s'][name]:8.2f}{result['median_MiB'][name]:8.0f}"
        rows.append(f"{name:20}{values}" + "".join(f"{ratio:8.2f}" for ratio in ratios))
    return "\n".join([*rows, f"largest difference of IoU on 8 images: {result['difference']:.1e}"])


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"repetitions": 3, "images": 128, "units": 512, "concepts": 24, "size": 56}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--ablations", type=int, default=0, help="ablate so many single units, and nothing else")
    parser.add_argument("--measured", type=int, default=2, help="whole passes that are measured")
    parser.add_argument("--growth", type=int, nargs="+", default=[], help="memory for so many images, and nothing else")
    arguments = vars(parser.parse_args())
    ablations, measured, growth = (arguments.pop(name) for name in ("ablations", "measured", "growth"))
    if growth:
        result = compare_growth(growth, **{name: arguments[name] for name in ("units", "concepts", "size")})
    elif ablations:
        result = compare_ablation(ablations, arguments["images"], measured)
        lines = ((name, f"{value:.4g} s") for name, value in result["seconds"].items())
        print("\n".join(f"{name:16}{value:>12}" for name, value in lines))
        difference = f"largest difference of balanced accuracy: {result['difference']:.1e}"
        print(f"{result['times faster']:.0f} times as fast; {difference}")
    else:
        result = compare(**arguments)
        print(_table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
