"""Peak memory of every stage, computed before the work: at the geometry of ImageNet at 256 px and on small models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import make_context
from hydra import compose, initialize_config_dir

from lis import memory, peaks
from lis.classifiers.partnet import PartNet
from lis.config import conf_folder
from lis.context import Context
from lis.generators.stylegan_xl import StyleGANXL, imagenet256
from lis.memory import Machine
from lis.peaks import Peak, announce
from lis.stages import names, register
from lis.validation import typed

register()

GIB = 2**30
LIMIT = {"cpu": 16 * GIB, "cuda": 40 * GIB}


class Reader(PartNet):
    """Reads images of any size, as the networks of ImageNet do; its maps are small beside the generator's."""

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return super().features(torch.nn.functional.adaptive_avg_pool2d(image, 64))


def imagenet_context(folder: Path, *overrides: str) -> Context:
    """Ten classes of the paper's counts on a generator without weights."""
    classes = ["classes=custom", f"classes.names=[{','.join(CLASSES)}]", "classes.labels=[ear,eye,leg,tail]"]
    paper = ["size=paper", "gan=imagenet256", "gan.weights=random", *classes, f"store={folder}"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = typed(compose("config", [*paper, *overrides]))
    generator: Any = StyleGANXL(imagenet256())
    return replace(make_context(folder), config=config, generator=generator, classifier=Reader())


CLASSES = [f"class_{k}" for k in range(10)]


CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("network", "batch_size"), [("projected", 100), ("three", 100_000), ("five", 1)])
def test_every_stage_keeps_its_limit_at_256_pixels_whatever_the_batch(
    tmp_path: Path, device: str, network: str, batch_size: int
) -> None:
    """16 GB on a processor, 40 GB planned for a GPU (simulated); part world's own stages apart."""
    chosen = (f"segmenter={network}", f"batch_size={batch_size}", "matcher=pump")
    ctx = imagenet_context(tmp_path, *chosen)
    machine = Machine(torch.device(device), memory.MOST[device])
    stages = set(names()) - {"matching"}  # which only part world can do
    found = peaks.peaks(ctx, [name for name in names() if name in stages], machine)
    assert set(found) == stages
    over = {stage: peak.total / GIB for stage, peak in found.items() if peak.total > LIMIT[device]}
    assert not over
    assert found["pairs/train"].images > GIB and found["tuning"].images > found["tuning"].arrays > 0


def test_a_larger_budget_is_used_and_a_smaller_one_kept(tmp_path: Path) -> None:
    ctx = imagenet_context(tmp_path, "batch_size=100")
    small, large = (peaks.peaks(ctx, ["tuning"], Machine(CPU, n * GIB))["tuning"] for n in (3, 30))
    assert small.images <= 3 * GIB < 20 * GIB < large.images <= 30 * GIB
    assert small.models == large.models and small.arrays == large.arrays


def test_what_the_stages_ask_for_is_among_them(tmp_path: Path) -> None:
    found = peaks.peaks(imagenet_context(tmp_path), ["pictures"], Machine(CPU, GIB))
    assert list(found) == ["pairs/train", "link", "directions", "segmenter", "tuning", "unit_statistics", "pictures"]
    assert Peak(1, 2, 3).total == 6


def test_the_log_says_it_where_it_is_much_and_warns_where_it_is_too_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    small = make_context(tmp_path)
    announce(replace(small, config=replace(small.config, analysis=replace(small.config.analysis, stages=["link"]))))
    assert not caplog.text
    ctx = imagenet_context(tmp_path, "analysis.stages=[tuning]")
    announce(ctx)
    assert "memory at the peak of each stage, in GiB on cpu: pairs/train" in caplog.text
    assert "may take more memory" not in caplog.text
    monkeypatch.setattr(memory, "free", lambda _: GIB)
    announce(ctx)
    assert "may take more memory than the 1.0 GiB that are free (cpu): use a smaller generator" in caplog.text


def test_nothing_is_said_of_no_stages_and_what_cannot_be_measured_does_not_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    announce(imagenet_context(tmp_path, "analysis.stages=[]"))
    assert not caplog.text

    class Blocked(Reader):
        def features(self, image: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no pictures today")

    ctx = imagenet_context(tmp_path, "analysis.stages=[tuning]")
    announce(replace(ctx, classifier=Blocked()))
    assert "how much memory the stages will take is not known: no pictures today" in caplog.text


def test_simulated_on_a_gpu_arrays_count_on_the_host_and_images_on_the_card(tmp_path: Path) -> None:
    ctx = imagenet_context(tmp_path, "analysis.stages=[tuning]")
    gpu = torch.device("cuda")
    found = {"tuning": Peak(1, 20, 300)}
    assert peaks._needs(replace(ctx, device=gpu), found) == {gpu: {"tuning": 20}, CPU: {"tuning": 300}}
    assert peaks._needs(ctx, found) == {CPU: {"tuning": 320}}


def test_fc_l2_makes_images_of_its_own(tmp_path: Path) -> None:
    plain, projecting = (
        peaks.peaks(imagenet_context(tmp_path, f"link={link}"), ["link"], Machine(CPU, 8 * GIB))["link"]
        for link in ("fc_l1", "fc_l2")
    )
    assert plain.images == 0 < projecting.images
