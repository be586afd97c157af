"""Runs with StyleGAN-XL through the real command line: a small checkpoint, and the real shapes with random weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commandline import ROOT, SMALL, lis
from helpers.pickled import packed
from safetensors.torch import load_file

from lis.classifiers.libraries import BarePartNet
from lis.classifiers.partnet import PartNetwork
from lis.generators.stylegan_xl import read_checkpoint
from lis.labels.png import label_palette, write_mask

COUNTING = """
import atexit
from lis.generators.stylegan_xl import StyleGANXL
from lis.run import main

made, synthesize = [], StyleGANXL.synthesize


def counted(self, w, features=False):
    made.append(len(w))
    return synthesize(self, w, features)


StyleGANXL.synthesize = counted
atexit.register(lambda: print("images made:", sum(made)))
main()
"""
STARTED = "from lis.run import main; main()"
RANDOM = ["classifier=resnet50", "classifier.weights=random", "pairs.accept=any"]


def tensors(run: Path, shape: tuple[int, ...]) -> bool:
    """Whether an artifact of a run holds a tensor of that shape."""
    files = (run / "outputs" / "store").rglob("*.safetensors")
    return any(tuple(value.shape) == shape for file in files for value in load_file(file).values())


@pytest.mark.slow
def test_a_checkpoint_of_the_users_runs_to_a_page(tmp_path: Path) -> None:
    weights = tmp_path / "mine.pkl"
    weights.write_bytes(packed("t_stem16_c10"))
    names = ",".join(f"class_{i}" for i in range(10))
    gan = ["gan=file", f"gan.weights={weights}", "gan.compile=off"]
    classifier = [*RANDOM, "classifier.num_classes=10", f"classifier.class_names=[{names}]"]
    counts = ["pairs.train=4", "pairs.test=3", "shard_size=4", "similarity.examples=3"]
    classes = ["classes=custom", "classes.names=[class_1,class_3]"]
    code, output = lis(*SMALL, *gan, *classifier, *classes, *counts, "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, output
    assert "banded matrices (gan.compile=off)" in output
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000


@pytest.mark.slow
def test_faces_without_classes_and_a_binary_classifier_run_to_a_page(tmp_path: Path) -> None:
    """The recipe of Fig. S4 with small networks; the classifier's file has one logit, 0 for half of the samples."""
    weights = tmp_path / "faces.pkl"
    weights.write_bytes(packed("r_stem32_uncond"))
    torch.manual_seed(0)
    network = PartNetwork(1).eval()
    drawn = read_checkpoint(weights, compile="off").reference_samples(seed=0, n=32)[:, 0]
    with torch.inference_mode():
        image = read_checkpoint(weights, compile="off").synthesize(drawn)
        network.head.bias -= network(BarePartNet("partnet").preprocessing(False)(image)).median()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "gender.pth")
    names = "[female,male]"
    code, output = lis(
        *SMALL, "gan=ffhq256", f"gan.weights={weights}", "gan.compile=off", "link=lr", "analysis=traversal",
        "classifier=file", "classifier.library=partnet", "classifier.model=partnet", "classifier.weights=gender.pth",
        "classifier.num_classes=2", f"classifier.class_names={names}", "classifier.domain=faces", "classes=custom",
        f"classes.names={names}", "pairs.train=8", "pairs.test=3", "shard_size=8", "traversal.units=3",
        "traversal.samples=2", "traversal.examples=1", "traversal.steps=3", "evaluation.examples=1",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    assert "has one logit" in output and "not known" not in output
    assert "Single units" in (tmp_path / "run" / "report.html").read_text()


def labels_of(folder: Path, gan: list[str], cwd: Path) -> None:
    """Two labelled images: a disc's upper and lower half, as if a person had drawn them."""
    counts = ["labels.train=2", "labels.test=1", "classes.labels=[upper,lower]"]
    program = [sys.executable, "-m", "lis.labels", "export", str(folder), *gan, *counts]
    done = subprocess.run(program, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    y, x = np.indices((256, 256)) - 128
    mask = np.where(x**2 + y**2 < 90**2, 1 + (y > 0), 0).astype(np.uint8)
    for image in folder.glob("train_*.png"):
        write_mask(image.with_suffix(".mask.png"), mask, label_palette(("upper", "lower")))


@pytest.mark.full
@pytest.mark.parametrize("network", ["projected", "three"])
def test_256_pixels_take_less_memory_than_planned_at_any_batch_size(tmp_path: Path, network: str) -> None:
    """Pairs, link and tuning of three units under a limit of 16 GB, `batch_size=1000`; the plan is that of the log."""
    gan = ["gan=imagenet256", "gan.weights=random", "classes=custom", "classes.names=[pug]"]
    labels_of(tmp_path / "labels", gan, tmp_path)
    chosen = [*gan, *RANDOM, f"labels.folder={tmp_path / 'labels'}", "classes.labels=[upper,lower]"]
    counts = ["pairs.train=12", "pairs.test=2", "shard_size=12", "batch_size=1000", "tuning.batch_size=1000"]
    few = [
        "tuning.units=3",
        "tuning.seeds=2",
        "tuning.control_directions=1",
        f"segmenter={network}",
        "segmenter.epochs=2",
    ]
    stages = ["analysis=unit_statistics", "analysis.stages=[pairs/train,link,tuning]"]
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (16 * 2**30,) * 2); {STARTED}"
    command = [sys.executable, "-c", limited, *SMALL, *chosen, *counts, *few, *stages, "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = re.search(r"memory at the peak of each stage, in GiB on cpu: (.*)", done.stdout + done.stderr)
    assert planned, done.stdout + done.stderr
    most = max(float(part.split()[-1]) for part in planned[1].split(", "))
    taken = json.loads((tmp_path / "run" / "summary.json").read_text())["peak_memory_mb"] / 2**10
    assert taken <= most <= 16, (taken, planned[1])


@pytest.mark.full
def test_the_real_shapes_run_on_a_cpu(tmp_path: Path) -> None:
    """2,048 → 512, 1,000 classes, 32 ws: one class, two training and two test pairs, 12 images in all."""
    counts = ["pairs.train=2", "pairs.test=2", "shard_size=2", "batch_size=2", "evaluation.examples=1"]
    stages = ["analysis=link", "analysis.stages=[pairs/train,pairs/test,link,evaluation]"]
    chosen = ["gan=imagenet256", "gan.weights=random", "classes=custom", "classes.names=[pug]"]
    command = [sys.executable, "-c", COUNTING, *SMALL, *chosen, *RANDOM, *counts, *stages, "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rpartition("images made:")[2]) <= 12
    assert tensors(tmp_path, (2, 2048)) and tensors(tmp_path, (2, 512)) and tensors(tmp_path, (2048, 512))
    assert (tmp_path / "run" / "report.html").is_file()
