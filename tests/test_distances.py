"""Image distances against plain reference implementations, on weights made up here; bad weight files are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import lpips
import pytest
import torch
from helpers.damage import DAMAGE
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import resnet50

from lis.linking.distances import Lpips, Moco, PixelL2, alexnet_path, choose
from lis.linking.evaluation import EvaluationConfig

PIXELS = list(itertools.product(range(3), range(5), range(5)))
CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def _images(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random AlexNet convolutions where torch's hub cache would have the real ones."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    generator, state = torch.Generator().manual_seed(1), {}
    for layer, (out, inside, kernel) in CONVOLUTIONS.items():
        state[f"features.{layer}.weight"] = torch.randn(out, inside, kernel, kernel, generator=generator) / kernel / 8
        state[f"features.{layer}.bias"] = torch.randn(out, generator=generator) / 8
    path = alexnet_path()
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def moco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as MoCo v2 publishes it, with random weights."""
    path = tmp_path_factory.mktemp("moco") / "moco.pth.tar"
    torch.manual_seed(0)
    encoder = {f"module.encoder_q.{k}": v for k, v in resnet50().state_dict().items() if not k.startswith("fc.")}
    head = {f"module.encoder_q.fc.{k}.weight": torch.zeros(2, 2) for k in (0, 2)}
    torch.save(
        {"epoch": 800, "arch": "resnet50", "state_dict": encoder | head | {"module.queue": torch.zeros(2)}}, path
    )
    return path


def test_pixel_l2_is_the_mean_squared_error() -> None:
    """Against a loop."""
    a, b = _images(3, 5), _images(3, 5, seed=1)
    expected = [sum((float(a[k, c, y, x]) - float(b[k, c, y, x])) ** 2 for c, y, x in PIXELS) / 75 for k in range(3)]
    assert PixelL2()(a, b).tolist() == pytest.approx(expected)


def _lpips_reference(weights: Path, a: Tensor, b: Tensor) -> float:
    """Zhang et al. 2018, Eq. 1: per layer the weighted squared difference of unit vectors, averaged over positions."""
    state = torch.load(weights, weights_only=True)
    linear = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", "cpu", weights_only=True)
    total = 0.0
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    x, y = (a - shift) / scale, (b - shift) / scale
    for k, layer in enumerate(CONVOLUTIONS):
        stride, padding = {0: (4, 2), 3: (1, 2)}.get(layer, (1, 1))
        unit = []
        maps = []
        for image in (x, y):
            if layer in (3, 6):
                image = F.max_pool2d(image, 3, 2)
            weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
            maps.append(F.conv2d(image[None], weight, bias, stride, padding)[0].relu())
            unit.append(maps[-1] / maps[-1].norm(dim=0, keepdim=True).clamp(min=1e-10))
        x, y = maps
        importance = linear[f"lin{k}.model.1.weight"].flatten()
        total += float(((unit[0] - unit[1]) ** 2 * importance[:, None, None]).sum(0).mean())
    return total


def test_lpips_follows_its_definition(alexnet: Path) -> None:
    """On 64 pixels, without a word on the output, and 0 for equal images."""
    a, b = _images(3, 64), _images(3, 64, seed=1)
    distances = Lpips(alexnet)(a, b)
    assert distances.shape == (3,)
    expected = [_lpips_reference(alexnet, *pair) for pair in zip(a, b, strict=True)]
    assert distances.tolist() == pytest.approx(expected, rel=1e-4)
    assert Lpips(alexnet)(a, a).abs().max() == 0


def test_lpips_reads_the_smallest_image_it_claims(alexnet: Path) -> None:
    """31 pixels."""
    assert Lpips(alexnet)(_images(1, 31), _images(1, 31, seed=1)).isfinite().all()


def test_moco_is_the_distance_of_pooled_features(moco: Path) -> None:
    """Against a torchvision network that is loaded and called in the plain way."""
    a, b = _images(2, 16), _images(2, 16, seed=1)
    net = resnet50()
    state = torch.load(moco, weights_only=True)["state_dict"]
    plain = {k.removeprefix("module.encoder_q."): v for k, v in state.items() if ".fc." not in k and "queue" not in k}
    net.load_state_dict(plain, strict=False)
    net.register_module("fc", torch.nn.Identity())
    net.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = []
    for image in (a, b):
        large = F.interpolate((image + 1) / 2, (224, 224), mode="bilinear", antialias=True)
        features.append(net((large - mean[:, None, None]) / std[:, None, None]).detach())
    expected = torch.stack([((p - q) ** 2).sum().sqrt() for p, q in zip(*features, strict=True)])
    distance = Moco(moco)
    assert distance.features(a).shape == (2, 2048)
    torch.testing.assert_close(distance(a, b), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["missing", "text", "code"])
@pytest.mark.parametrize("distance", [Lpips, Moco])
def test_unusable_files_are_refused(tmp_path: Path, kind: str, distance: type[Lpips] | type[Moco]) -> None:
    """The message names the file; nothing in it is executed."""
    path, witness = tmp_path / "weights.pth", tmp_path / "witness"
    DAMAGE[kind](path, witness)
    with pytest.raises(ValueError, match=r"weights\.pth"):
        distance(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "'model'.*expected 'state_dict'"),
        ({"state_dict": {"conv1.weight": torch.zeros(1)}}, "'conv1.weight'.*module.encoder_q.conv1.weight"),
        ({"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(1)}}, r"\(1,\).*\(64, 3, 7, 7\)"),
        ({"state_dict": {"module.encoder_q.bn1.weight": torch.zeros(64)}}, "nothing under 'conv1.weight'"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, content: dict[str, object], message: str) -> None:
    """The message shows what the file holds and what was expected."""
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        Moco(path)


def test_weights_of_another_network_are_refused(alexnet: Path) -> None:
    """AlexNet's file with something else in it."""
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, alexnet)
    with pytest.raises(ValueError, match=r"features\.0\.\w+.*expected \(64"):
        Lpips(alexnet)


def test_missing_lpips_weights_leave_the_metric_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with the file and its folder; and nothing is fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    choice = choose(EvaluationConfig(examples=1), resolution=64)
    assert "alexnet-owt-7be5be79.pth" in choice.left_out["lpips"]
    assert str(tmp_path / "hub" / "checkpoints") in choice.left_out["lpips"]
    assert "evaluation.moco" in choice.left_out["moco"]
    assert [distance.name for distance in choice.load()] == ["pixel_l2"]


def test_all_distances_are_chosen(alexnet: Path, moco: Path) -> None:
    """With both files there; the checksums tell one file from another."""
    choice = choose(EvaluationConfig(examples=1, moco=str(moco)), resolution=64)
    assert not choice.left_out
    assert [distance.name for distance in choice.load()] == ["pixel_l2", "lpips", "moco"]
    assert len(set(choice.checksums.values())) == 2
    assert alexnet.is_file()


def test_features_alone_are_lpips_backbone(alexnet: Path, tmp_path: Path) -> None:
    """The convolutions as safetensors give what torchvision's file gives, and have a checksum of their own."""
    state = torch.load(alexnet, weights_only=True)
    save_file(state, tmp_path / "features.safetensors")
    torch.save(state | {"classifier.1.weight": torch.zeros(4096, 9216)}, alexnet)
    config = EvaluationConfig(lpips_backbone=str(tmp_path / "features.safetensors"), examples=1)
    choice, cached = choose(config, resolution=64), choose(EvaluationConfig(examples=1), resolution=64)
    assert choice.files["lpips"].name == "features.safetensors" and choice.checksums != cached.checksums
    a, b = _images(2, 64), _images(2, 64, seed=1)
    assert torch.equal(choice.load()[1](a, b), cached.load()[1](a, b))


def test_a_missing_backbone_is_an_error(alexnet: Path, tmp_path: Path) -> None:
    """It was asked for by its path, whatever lies in torch's cache."""
    assert alexnet.is_file()
    with pytest.raises(ValueError, match=r"evaluation\.lpips_backbone.*nowhere\.pth is no file.*features\.0\.weight"):
        choose(EvaluationConfig(lpips_backbone=str(tmp_path / "nowhere.pth"), examples=1), resolution=64)


@pytest.mark.parametrize(
    ("lpips_wanted", "resolution", "reason"), [(False, 64, "switched off"), (True, 30, "30 pixels")]
)
def test_lpips_is_left_out_with_its_reason(alexnet: Path, lpips_wanted: bool, resolution: int, reason: str) -> None:
    """Not wanted, or not possible."""
    assert alexnet.is_file()
    assert reason in choose(EvaluationConfig(lpips=lpips_wanted, examples=1), resolution).left_out["lpips"]


def test_a_missing_moco_file_is_an_error(tmp_path: Path) -> None:
    """It was asked for by its path."""
    with pytest.raises(ValueError, match=r"evaluation\.moco.*nowhere\.pth"):
        choose(EvaluationConfig(lpips=False, moco=str(tmp_path / "nowhere.pth"), examples=1), resolution=64)
