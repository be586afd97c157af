"""Runs with StyleGAN-XL through the real command line: a small checkpoint, and the real shapes with random weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commandline import ROOT, SMALL, lis
from pickled import packed
from safetensors.torch import load_file

from lis.classifiers.libraries import BarePartNet
from lis.classifiers.partnet import PartNetwork
from lis.generators.stylegan_xl import read_checkpoint

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
        *SMALL, "gan=ffhq256", f"gan.weights={weights}", "gan.compile=off", "link=lr", "analysis=strips",
        "classifier=file", "classifier.library=partnet", "classifier.model=partnet", "classifier.weights=gender.pth",
        "classifier.num_classes=2", f"classifier.class_names={names}", "classifier.domain=faces", "classes=custom",
        f"classes.names={names}", "pairs.train=8", "pairs.test=3", "shard_size=8", "strips.units=3",
        "strips.samples=2", "strips.examples=1", "strips.steps=3", "evaluation.examples=1", "hydra.run.dir=run",
        cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    assert "has one logit" in output and "not known" not in output
    assert "Single units" in (tmp_path / "run" / "report.html").read_text()


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
