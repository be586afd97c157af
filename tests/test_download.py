"""Large files, from a server on this machine that breaks off, knows no ranges, or changes the file meanwhile."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import requests
from helpers.serving import Quiet, serving

from lis.download import download
from lis.lock import Lease
from lis.progress import Progress
from lis.store import sha256

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONTENT = np.random.default_rng(0).bytes(700_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CUT = 300_000


@dataclass
class Server:
    """What is served, and what was asked for."""

    url: str = ""
    content: bytes = CONTENT
    tag: str = '"one"'
    ranges: bool = True
    cuts: int = 0
    """How often the connection breaks after `CUT` bytes."""
    changed: bytes = b""
    """What the file becomes after the first request."""
    asked: list[str] = field(default_factory=list)
    """The range of each request."""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.asked.append(asked)
        is_range = self.ranges and asked and handler.headers["If-Range"] == self.tag
        first = int(re.findall(r"\d+", asked)[0]) if is_range else 0
        body = self.content[first:]
        handler.send_response(206 if is_range else 200)
        if is_range:
            handler.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", self.tag)
        handler.end_headers()
        handler.wfile.write(body[: CUT if self.cuts > 0 else None])
        self.cuts -= 1
        if self.changed:
            self.content, self.tag, self.changed = self.changed, '"two"', b""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(Quiet):
        def do_GET(self) -> None:
            state.answer(self)

    monkeypatch.setattr("lis.download._PAUSE", 0.0)
    with serving(Handler, monkeypatch) as address:
        state.url = f"{address}/a.pkl"
        yield state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pkl"


def whole(path: Path, content: bytes = CONTENT) -> bool:
    """Whether the file is here, and nothing else."""
    return path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def started(server: Server) -> list[int]:
    """From which byte each request asked on."""
    return [int((re.findall(r"\d+", asked) or [0])[0]) for asked in server.asked]


@pytest.mark.parametrize("digest", ["", DIGEST, DIGEST[:8]])
def test_after_a_broken_connection_the_rest_is_asked_for(server: Server, path: Path, digest: str) -> None:
    """All was fetched again; at most a piece of 64 KB is."""
    server.cuts = 2
    download(server.url, path, digest)
    first, second, third = started(server)
    assert whole(path) and first == 0 and CUT - 2**16 <= second <= CUT and second + CUT - 2**16 <= third


def test_the_next_run_goes_on_where_one_was_killed(server: Server, path: Path) -> None:
    """With what lies there as a kill leaves it."""
    server.cuts = 10**6
    server.ranges = False
    with pytest.raises(requests.RequestException):
        download(server.url, path)
    left = (path.parent / "a.pkl.part").stat().st_size
    assert not path.exists() and 0 < left <= CUT
    server.cuts, server.ranges, server.asked = 0, True, []
    download(server.url, path, DIGEST)
    assert whole(path) and started(server) == [left]


def test_a_server_without_ranges_sends_all_again(server: Server, path: Path) -> None:
    server.cuts, server.ranges = 1, False
    download(server.url, path, DIGEST)
    assert whole(path) and len(server.asked) == 2


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, path: Path) -> None:
    """No file is put together of two."""
    server.cuts, server.changed = 1, CONTENT[::-1]
    download(server.url, path)
    assert whole(path, CONTENT[::-1])


def test_a_file_that_changed_under_the_same_tag_is_begun_anew(server: Server, path: Path) -> None:
    """Its checksum tells."""
    (path.parent / "a.pkl.part").write_bytes(b"other" * 100)
    (path.parent / "a.pkl.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"one\\""}}')
    download(server.url, path, DIGEST)
    assert whole(path) and started(server) == [500, 0]


def test_parts_of_another_address_or_of_no_known_file_are_not_used(server: Server, path: Path) -> None:
    for record in (None, '{"url": "http://127.0.0.1/b.pkl", "validator": "\\"one\\""}', "{", "[]", '{"url": 3}'):
        (path.parent / "a.pkl.part").write_bytes(b"other")
        if record is not None:
            (path.parent / "a.pkl.part.json").write_text(record)
        download(server.url, path)
        assert whole(path) and server.asked[-1] == ""
        path.unlink()


def test_a_whole_part_that_was_not_renamed_yet_is_more_than_is_there(server: Server, path: Path) -> None:
    """The server says that no byte is left."""
    (path.parent / "a.pkl.part").write_bytes(CONTENT)
    (path.parent / "a.pkl.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"one\\""}}')

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(CONTENT)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answer = answer  # type: ignore[method-assign]
    download(server.url, path, DIGEST)
    assert whole(path)


def test_another_file_is_refused_and_not_kept(server: Server, path: Path) -> None:
    server.content = b"an error page"
    with pytest.raises(ValueError, match=f"SHA-256 begins with .*expected {DIGEST}"):
        download(server.url, path, DIGEST)
    assert list(path.parent.iterdir()) == []


def test_jobs_on_one_cache_fetch_a_file_once(server: Server, path: Path) -> None:
    """Each had its own part, and all fetched it."""
    jobs = [threading.Thread(target=download, args=(server.url, path, DIGEST)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert whole(path) and len(server.asked) == 1


def test_a_job_waits_for_another_that_fetches(server: Server, path: Path) -> None:
    with Lease(path.with_name("a.pkl.lock")):
        job = threading.Thread(target=download, args=(server.url, path, DIGEST))
        job.start()
        time.sleep(0.3)
        assert not server.asked
    job.join()
    assert whole(path)


def test_progress_is_told(
    server: Server, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lines where the output is no terminal; of a file that is gone on with, from there."""
    monkeypatch.setattr("lis.download.Progress", lambda: Progress(every=-1.0))
    server.content, server.cuts = CONTENT * 5, 1
    with caplog.at_level(logging.INFO):
        download(server.url, path)
    assert "a.pkl, MB: 1 of 4" in caplog.text and "a.pkl, MB: 4 of 4" in caplog.text
    assert "asking for the rest after 0 MB" in caplog.text


def left(server: Server, path: Path, content: bytes, suffix: str = "") -> None:
    """Write what an earlier run has left."""
    path.with_name(f"a.pkl.part{suffix}").write_bytes(content)
    record = json.dumps({"url": server.url, "validator": server.tag})
    path.with_name(f"a.pkl.part{suffix}.json").write_text(record)


def respond(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer; `Content_Length` may state more than comes."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), "ETag": '"one"', **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


SLEEPER = """
import sys
from pathlib import Path
import lis.download
from lis.lock import Lease
lis.download.Lease = lambda folder, label: Lease(folder, 0.5, label)
lis.download.download(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_job_that_slept_writes_into_no_other_jobs_part(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wrote one file, of which the lengths alone told nothing; the sleeper failed where it now waits."""
    monkeypatch.setattr("lis.download.Lease", lambda folder, label: Lease(folder, 0.5, label))
    gates = [threading.Event(), threading.Event()]

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        gate, asked = gates[len(server.asked)], handler.headers.get("Range", "")
        server.asked.append(asked)
        first = int(re.findall(r"\d+", asked)[0]) if asked else 0
        stated = {"Content_Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        length, until = str(len(CONTENT) - first), first + CUT
        respond(handler, 206 if asked else 200, CONTENT[first:until], Content_Length=length, **stated)
        gate.wait(20)
        with suppress(OSError):  # the sleeper has hung up
            handler.wfile.write(CONTENT[until:])

    server.answer = answer  # type: ignore[method-assign]
    other = threading.Thread(target=download, args=(server.url, path))
    with subprocess.Popen([sys.executable, "-c", SLEEPER, server.url, str(path)]) as sleeper:
        try:
            wait_until(lambda: any(file.stat().st_size >= CUT - 2**16 for file in path.parent.glob("*.part*")))
            sleeper.send_signal(signal.SIGSTOP)
            other.start()
            wait_until(lambda: len(server.asked) == 2)
            time.sleep(0.3)
            sleeper.send_signal(signal.SIGCONT)
            gates[0].set()
            time.sleep(0.5)
            gates[1].set()
            other.join()
            assert sleeper.wait(20) == 0 and whole(path) and len(server.asked) == 2
        finally:
            sleeper.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_whose_part_was_taken_over_takes_the_others_result(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed: its part was gone."""

    def taken_over(file: Path) -> str:
        monkeypatch.setattr("lis.download.sha256", sha256)
        shutil.rmtree(path.with_name("a.pkl.lock"))
        download(server.url, path)
        return sha256(file)

    monkeypatch.setattr("lis.download.sha256", taken_over)
    download(server.url, path, DIGEST)
    assert whole(path)


def test_what_a_killed_run_has_left_is_copied(server: Server, path: Path) -> None:
    """Its writer may only sleep, and go on with its open file; the largest part counts, and none remains."""
    left(server, path, CONTENT[:1000], "-0123abcd")
    left(server, path, CONTENT[:CUT], "-4567abcd")
    with path.with_name("a.pkl.part-4567abcd").open("ab") as file:
        server.cuts = 1
        download(server.url, path)
        file.write(b"late")
    assert whole(path) and server.asked[0] == f"bytes={CUT}-"


@pytest.mark.parametrize("refusal", [200, 416])
def test_a_server_without_ranges_that_breaks_off_is_given_up(server: Server, path: Path, refusal: int) -> None:
    """It was asked for ever, as each second try came further than the one before."""
    sent: list[int] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        server.asked.append(handler.headers.get("Range", ""))
        if server.asked[-1] and refusal == 416:
            return respond(handler, 416)
        sent.append(len(CONTENT) if len(sent) > 9 else (200_000, 100_000)[len(sent) % 2])
        respond(handler, 200, CONTENT[: sent[-1]], Content_Length=str(len(CONTENT)))

    server.answer = answer  # type: ignore[method-assign]
    with pytest.raises(requests.RequestException):
        download(server.url, path)
    assert len(sent) == 3 and sum(map(bool, server.asked)) == 1


@pytest.mark.parametrize("stated", ["", "bytes", f"bytes {CUT}-{len(CONTENT) - 1}/*", "bytes 5-9/700000"])
def test_a_part_that_does_not_say_which_is_not_taken_for_the_whole(server: Server, path: Path, stated: str) -> None:
    """The rest was saved under the file's name."""
    left(server, path, CONTENT[:CUT])

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        server.asked.append(handler.headers.get("Range", ""))
        if server.asked[-1]:
            respond(handler, 206, CONTENT[CUT:], **({"Content_Range": stated} if stated else {}))
        else:
            respond(handler, 200, CONTENT)

    server.answer = answer  # type: ignore[method-assign]
    download(server.url, path)
    assert whole(path) and server.asked == [f"bytes={CUT}-", ""]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("cuts", [0, 1])
def test_a_busy_server_is_asked_again(server: Server, path: Path, status: int, cuts: int) -> None:
    """Three times, whether or not bytes have come before."""
    server.cuts = cuts
    serve, busy = server.answer, [status] * 3

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if busy and server.cuts <= 0:
            respond(handler, busy.pop())
        else:
            serve(handler)

    server.answer = answer  # type: ignore[method-assign]
    if cuts:
        busy.pop()  # the broken connection was the first
    download(server.url, path, DIGEST)
    assert whole(path) and not busy and len(server.asked) == 1 + cuts


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("7", 7), ("3600", 60), ("Fri, 31 Dec 9999 23:59:59 GMT", 60), ("soon", 1), ("", 1), ("-5", 1)],
)
def test_a_busy_server_says_when_to_ask_again(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, stated: str, expected: int
) -> None:
    """Up to a minute; then it is given up. Simulated: nobody waits."""
    pauses: list[float] = []
    monkeypatch.setattr("lis.download._PAUSE", 1.0)
    monkeypatch.setattr("lis.download._wait", pauses.append)
    server.answer = lambda handler: respond(handler, 503, Retry_After=stated)  # type: ignore[method-assign]
    with pytest.raises(requests.HTTPError, match="503"):
        download(server.url, path)
    assert pauses == [expected] * 3 and list(path.parent.iterdir()) == []
