"""float32 is float32 on a GPU too, and TF32 is used where it is asked for alone. Simulated: torch's flags are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.commandline import SMALL
from helpers.stylegan_xl_fixtures import generator, recorded
from hydra import compose, initialize_config_dir
from test_training import SHORT, small

from lis import build
from lis.classifiers import classifier
from lis.config import RunConfig, conf_folder
from lis.generators.stylegan_xl import synthesis
from lis.labels.__main__ import configuration
from lis.precision import check_tf32, tf32, use_float32
from lis.progress import Progress
from lis.stages import register
from lis.validation import typed

CPU, GPU = torch.device("cpu"), torch.device("cuda")
NAME = "r_stem32_uncond"
EXACT, COARSE = (False, "highest"), (True, "high")


def flags() -> tuple[bool, str]:
    """Whether cuDNN may use TF32, and what matrix products are computed in."""
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def coarse() -> Iterator[None]:
    """What the process had before: TF32 wherever a GPU has it."""
    before = flags()
    torch.backends.cudnn.allow_tf32, _ = True, torch.set_float32_matmul_precision("high")
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


def settings(*overrides: str) -> RunConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        register()
        return typed(compose("config", [*SMALL, *overrides]))


def test_a_run_computes_float32_in_float32_simulated(tmp_path: Path) -> None:
    assert flags() == COARSE
    build.context(settings(f"store={tmp_path}"))
    assert flags() == EXACT


def test_an_export_computes_float32_in_float32_simulated() -> None:
    build.ready_device(configuration(["device=cpu"]))
    assert flags() == EXACT


@pytest.mark.parametrize(("dtype", "inside"), [("float32", EXACT), ("tf32", COARSE), ("bf16", EXACT)])
def test_only_convolutions_that_are_to_be_in_tf32_are_simulated(
    dtype: str, inside: tuple[bool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_float32()
    seen: list[tuple[bool, str]] = []

    def recorded_conv2d(*arguments: Any, **options: Any) -> torch.Tensor:
        seen.append(flags())
        return conv2d(*arguments, **options)

    conv2d = F.conv2d
    monkeypatch.setattr(synthesis.F, "conv2d", recorded_conv2d)
    generator(NAME, dtype=dtype).synthesis(recorded(NAME)["w_psi1"].clone().requires_grad_())
    assert set(seen) == {inside} and flags() == EXACT


def test_images_in_tf32_have_another_fingerprint() -> None:
    found = {generator(NAME, dtype=dtype).fingerprint for dtype in ("float32", "tf32", "bf16")}
    assert len(found) == 3 and generator(NAME).fingerprint in found


def test_a_training_in_tf32_ends_with_it_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    use_float32()
    seen: list[tuple[bool, str]] = []
    monkeypatch.setattr(classifier.pl.Trainer, "fit", lambda *_: seen.append(flags()))
    for precision in ("float32", "tf32"):
        config = replace(SHORT, images=45, held_out=1, precision=precision)
        facts = classifier.train(small(), config, 0, CPU, Progress()).facts
        assert flags() == EXACT and facts["precision"] == {"float32": "32-true", "tf32": "tf32"}[precision]
    assert seen == [EXACT, COARSE]


def test_tf32_ends_with_an_error_simulated() -> None:
    use_float32()
    with pytest.raises(KeyError), tf32():
        raise KeyError
    assert flags() == EXACT


def test_tf32_without_a_gpu_is_refused_before_any_work(tmp_path: Path) -> None:
    wanted = ("gan=imagenet256", "gan.weights=random", "gan.dtype=tf32", "device=cpu")
    with pytest.raises(ValueError, match=r"gan\.dtype=tf32 on device=cpu: .*use gan\.dtype=float32, or device=cuda"):
        build.context(settings(*wanted, f"store={tmp_path}"))
    both = {"gan.dtype": "tf32", "training.precision": "tf32"}
    with pytest.raises(ValueError, match=r"gan\.dtype=tf32 training\.precision=tf32 on device=cpu"):
        check_tf32(both, CPU)
    check_tf32(both, GPU)
    check_tf32({"gan.dtype": None, "training.precision": "auto"}, CPU)
