"""The generator that a configuration names: published files, from a server on this machine; random weights; names."""

from __future__ import annotations

import gc
import hashlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pickled import packed
from helpers.serving import Quiet, serving
from helpers.stylegan_xl_fixtures import TOLERANCE, recorded

from lis.generators.stylegan_xl import stylegan_xl, write_checkpoint
from lis.generators.stylegan_xl.published import fetch
from lis.imagenet import imagenet_names
from lis.streams import Stream

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NAME = "t_stem16_c10"
FILE = f"{NAME}.pkl"
CONTENT = packed(NAME)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What is served, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {f"/models/{FILE}": CONTENT})
    asked: list[str] = field(default_factory=list)
    announced: int = 0
    """Bytes that are announced beyond those that are sent."""

    @property
    def url(self) -> str:
        """Of the network."""
        return f"{self.address}/models/{FILE}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that runs."""
    state = Server()

    class Handler(Quiet):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"") + state.announced))
            self.end_headers()
            self.wfile.write(content or b"")

    with serving(Handler, monkeypatch) as state.address:
        yield state


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address at which nothing answers."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/models/{FILE}"
    gc.collect(1)


def record_of(folder: Path) -> Path:
    """The file that holds the checksum."""
    return folder / f"{FILE}.sha256"


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    """Its checksum is written beside it, in the form that `sha256sum --check` reads."""
    folder = tmp_path / "new" / "cache"
    paths = {fetch(server.url, str(folder)) for _ in range(3)}
    assert paths == {folder / FILE} and (folder / FILE).read_bytes() == CONTENT
    assert server.asked == [f"/models/{FILE}"]
    assert record_of(folder).read_text() == f"{DIGEST}  {FILE}\n"
    assert {path.name for path in folder.iterdir()} == {FILE, f"{FILE}.sha256"}


def test_the_usual_folder_is_that_of_the_users_caches(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a query is no part of the name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.files = {f"/models/{FILE}?download=1": CONTENT}
    assert fetch(f"{server.url}?download=1") == tmp_path / "lis" / FILE


def test_a_tilde_is_the_users_home(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell would have it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch(server.url, "~/cache") == tmp_path / "cache" / FILE


def test_a_file_that_changed_is_refused_and_left_alone(server: Server, tmp_path: Path) -> None:
    """The record is named, and what to do; nothing is fetched over it."""
    path = fetch(server.url, str(tmp_path))
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(
        ValueError, match=f"is not the file that it was: .*{record_of(tmp_path).name} beside it"
    ) as error:
        fetch(server.url, str(tmp_path))
    assert DIGEST in str(error.value) and hashlib.sha256(CONTENT + b"!").hexdigest() in str(error.value)
    assert path.read_bytes() == CONTENT + b"!" and len(server.asked) == 1


@pytest.mark.parametrize("deleted", ["file", "record"])
def test_either_remedy_works(server: Server, tmp_path: Path, deleted: str) -> None:
    """Without the file it is fetched again, without the record the file is taken as it is."""
    path = fetch(server.url, str(tmp_path))
    path.write_bytes(b"other")
    {"file": path, "record": record_of(tmp_path)}[deleted].unlink()
    assert fetch(server.url, str(tmp_path)).read_bytes() == (CONTENT if deleted == "file" else b"other")
    digest = DIGEST if deleted == "file" else hashlib.sha256(b"other").hexdigest()
    assert record_of(tmp_path).read_text() == f"{digest}  {FILE}\n"


def test_a_file_that_was_put_there_is_taken_and_recorded(nowhere: str, tmp_path: Path) -> None:
    """No network is needed."""
    (tmp_path / FILE).write_bytes(CONTENT)
    assert fetch(nowhere, str(tmp_path)) == tmp_path / FILE
    assert record_of(tmp_path).read_text() == f"{DIGEST}  {FILE}\n"


def test_a_folder_that_is_closed_to_the_user_will_do(
    nowhere: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is read, and the log says that there is no record of it."""
    (tmp_path / FILE).write_bytes(CONTENT)
    record_of(tmp_path).symlink_to(tmp_path / "missing" / "folder")
    assert fetch(nowhere, str(tmp_path)) == tmp_path / FILE
    assert f"{FILE}.sha256 cannot be written (No such file or directory)" in caplog.text


def test_another_file_at_the_address_is_refused(server: Server, tmp_path: Path) -> None:
    """The first checksum counts; nothing is kept."""
    fetch(server.url, str(tmp_path)).unlink()
    server.files[f"/models/{FILE}"] = b"an error page"
    with pytest.raises(ValueError, match=f"cannot be fetched .* hash .*; {FILE}.sha256 there holds the checksum"):
        fetch(server.url, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE}.sha256"]


def test_nothing_is_left_of_a_file_that_is_missing(server: Server, tmp_path: Path) -> None:
    """Neither a part of the file nor a record."""
    server.files = {}
    with pytest.raises(ValueError, match="404"):
        fetch(server.url, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_sent_in_part_is_none(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come stays for the next time, and the message says so."""
    monkeypatch.setattr("lis.download._PAUSE", 0.0)
    server.announced = 10
    with pytest.raises(ValueError, match=f"(?i)incomplete.*{FILE}.part, and the same command goes on"):
        fetch(server.url, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE}.part"]


def test_without_network_it_is_said_which_file_to_put_where(nowhere: str, tmp_path: Path) -> None:
    """And what else can be done."""
    folder = tmp_path / "cache"
    with pytest.raises(ValueError, match=f"^{re.escape(FILE)} cannot be fetched from {re.escape(nowhere)}") as error:
        stylegan_xl([], url=nowhere, cache=str(folder))
    for part in (
        f"put the published file into {folder} under this name",
        "gan.weights=<path",
        "gan.url=",
        "gan.cache=",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value) and "sha256" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "gan.url=null: expected gan.weights=<path of a checkpoint>"),
        ("", "gan.url=null"),
        ("http://127.0.0.1/", "names no file"),
        ("http://127.0.0.1/..", "names no file"),
    ],
)
def test_an_address_without_a_file_is_refused(url: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        stylegan_xl([], url=url, cache=str(tmp_path))


def near(network: Any) -> bool:
    """Whether a network gives the reference's images."""
    io = recorded(NAME)
    return float((network.synthesis(io["w_psi1"]) - io["img_psi1"]).abs().max()) <= TOLERANCE


def test_a_published_network_and_files_of_ones_own(server: Server, tmp_path: Path) -> None:
    """The same network from the address, from the file, and from what was made of it."""
    published = stylegan_xl([], url=server.url, cache=str(tmp_path), domain="toys", truncation=0.5, compile="off")
    assert near(published)
    assert (published.domain, published.truncation, published.synthesis.compile_mode) == ("toys", 0.5, "off")
    assert published.class_names == tuple(f"class_{i}" for i in range(10))
    write_checkpoint(published, tmp_path / "saved")
    for path in (tmp_path / FILE, tmp_path / "saved", tmp_path / "saved" / "generator.safetensors"):
        own = stylegan_xl(["any"], weights=str(path), compile="off")
        assert near(own) and own.fingerprint == published.fingerprint
    assert len(server.asked) == 1


def test_a_path_may_begin_at_home_and_a_missing_file_or_entry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stylegan_xl([], weights=f"~/{FILE}").num_classes == 10
    with pytest.raises(ValueError, match=r"nothing\.pkl cannot be read"):
        stylegan_xl([], weights=str(tmp_path / "nothing.pkl"))
    with pytest.raises(ValueError, match=r"no entry 'H', but .*'G_ema'"):
        stylegan_xl([], weights=str(tmp_path / FILE), entry="H")


def test_names_of_the_classes(tmp_path: Path) -> None:
    """As many as classes, in their order."""
    (tmp_path / FILE).write_bytes(CONTENT)
    names = [*"abcdefghij"]
    assert stylegan_xl([], weights=str(tmp_path / FILE), names=names).class_names == tuple(names)
    with pytest.raises(ValueError, match=r"3 class names for 10 classes: give one per class \(gan.names\)"):
        stylegan_xl([], weights=str(tmp_path / FILE), names=names[:3])
    with pytest.raises(ValueError, match="1000 class names for 10 classes"):
        stylegan_xl([], weights=str(tmp_path / FILE), domain="imagenet")


def test_imagenets_names_come_with_its_domain() -> None:
    """A thousand, unless others are given."""
    network = stylegan_xl([], weights="random", resolution=16, num_classes=1000, domain="imagenet")
    assert network.class_names == imagenet_names() and network.class_names[232] == "border_collie"
    assert network.mean_w.shape == (1000, 512)
    own = stylegan_xl([], weights="random", resolution=16, names=[], domain="imagenet")
    assert own.class_names == () and own.mean_w.shape == (1, 512)


@pytest.mark.parametrize("classes", [0, 3])
def test_random_weights(classes: int) -> None:
    """The same each time."""
    first, again = (stylegan_xl([], weights="random", resolution=16, num_classes=classes) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    w = first.sample(classes - 1 if classes else None, torch.arange(2), Stream("train pairs"))
    assert first.resolution == 16 and first.num_classes == classes and w.shape == (2, 512) and bool(w.isfinite().all())


def test_random_weights_need_a_resolution() -> None:
    """One of those that were published."""
    with pytest.raises(ValueError, match=r"gan\.weights=random gan\.resolution=null: expected the pixels"):
        stylegan_xl([], weights="random")
    with pytest.raises(ValueError, match="no network was published at 48 pixels"):
        stylegan_xl([], weights="random", resolution=48)
