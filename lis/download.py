"""Fetches large files: with progress, and going on where a broken connection or a killed run left off."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from lis.json_files import read_json
from lis.lock import Lease
from lis.progress import Progress
from lis.stopping import stop
from lis.store import sha256

_PATIENCE = 10.0
"""Seconds without an answer after which the network counts as missing."""
_TRIES, _PAUSE = 3, 1.0
"""Times in a row that a connection may break without a byte, where there were some before, and seconds in between."""
_CHUNK, _MEGABYTE = 2**16, 2**20
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """A file of which some may be here: `<name>.part`, and beside it what the server said of it."""

    path: Path

    @property
    def record(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def headers(self, url: str) -> dict[str, str]:
        """What asks for the rest, if the file is still the one that was begun, else for all of it."""
        headers = {"Accept-Encoding": "identity"}
        try:
            begun = read_json(self.record)
        except ValueError:  # nothing is begun, or it is not known of what
            return headers
        if self.size and begun.get("url") == url and isinstance(begun.get("validator"), str):
            headers |= {"Range": f"bytes={self.size}-", "If-Range": begun["validator"]}
        return headers

    def begin(self, url: str, validator: str | None) -> None:
        self.remove()
        if validator:
            self.record.write_text(json.dumps({"url": url, "validator": validator}))

    def remove(self) -> None:
        for file in (self.path, self.record):
            file.unlink(missing_ok=True)


def download(url: str, path: Path, digest: str = "") -> None:
    """Fetch a file that is not here yet; it has its name only when it is whole.

    What has come before the connection broke, or the run ended, lies in `<name>.part`, and the next call asks for the
    rest of it (`Range`), if the file is still the same at its address (`If-Range`); else it begins anew. Of several
    jobs one fetches, and the others wait for it.

    Args:
        url: the address.
        path: where the file is to lie; its folder is made when needed.
        digest: its SHA-256, hexadecimal, or the beginning of it; "": not known.

    Raises:
        ValueError: what has come is another file; nothing of it is left.
        requests.RequestException: it cannot be had; what has come stays for the next call.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with Lease(path.with_name(f"{path.name}.lock"), label=path.name) as lease:
        try:
            if not path.is_file():
                _complete(url, path, digest, lease)
        finally:
            if lease.owned:
                lease.clear()


def _complete(url: str, path: Path, digest: str, lease: Lease) -> None:
    log.info("fetching %s into %s", url, path.parent)
    part = _Part(path.with_name(f"{path.name}.part"))
    resumed = _receive_all(url, part, lease)
    if digest and resumed and not sha256(part.path).startswith(digest):
        log.warning("the parts of %s do not fit together: it is fetched anew", path.name)
        part.remove()
        _receive_all(url, part, lease)
    if digest and not (actual := sha256(part.path)).startswith(digest):
        part.remove()
        raise ValueError(
            f"another hash than expected: its SHA-256 begins with {actual[: len(digest)]}, expected {digest}"
        )
    part.path.replace(path)
    part.remove()


def _receive_all(url: str, part: _Part, lease: Lease) -> bool:
    """Ask until all is here; True where some of it was here before."""
    resumed, failures, received = False, 0, False
    while True:
        before = part.size
        try:
            return _receive(url, part, lease) or resumed
        except _BROKEN as error:
            grown = part.size > before
            failures, received = 0 if grown else failures + 1, received or grown
            if not received or failures >= _TRIES:
                raise
            log.warning("%s: %.200s; asking for the rest after %.0f MB", url, error, part.size / _MEGABYTE)
            resumed = True
            time.sleep(_PAUSE)


def _receive(url: str, part: _Part, lease: Lease) -> bool:
    """Ask once, and take what comes; True where it is added to what was here.

    Raises:
        requests.RequestException: there is no such file, or the connection broke.
    """
    headers = part.headers(url)
    with requests.get(url, headers=headers, stream=True, timeout=_PATIENCE) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{part.size}":  # all was here, and not yet renamed
                return True
            part.remove()
            raise requests.ConnectionError(f"{url} has less than what was fetched before: it begins anew")
        response.raise_for_status()
        first, total = _range(response)
        if first != part.size or "Range" not in headers:
            if first:
                part.remove()
                raise requests.ConnectionError(f"{url} sent bytes from {first:,} on, which were not asked for")
            part.begin(url, _validator(response))
        megabytes = -(-total // _MEGABYTE) - first // _MEGABYTE if total else None
        label = f"{part.path.stem}, MB" + f" after the first {first // _MEGABYTE}" * (first >= _MEGABYTE)
        for _ in Progress().track(_written(response, part, lease), megabytes, label):
            stop.check()
    if total is not None and part.size != total:
        raise requests.ConnectionError(f"incomplete: {part.size:,} of {total:,} bytes")
    return first > 0


def _range(response: requests.Response) -> tuple[int, int | None]:
    """The first byte that is sent, and how many the whole file has; None: not stated."""
    stated = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    if response.status_code == requests.codes.partial_content and stated:
        return int(stated[1]), None if stated[2] == "*" else int(stated[2])
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) and not encoded else None


def _validator(response: requests.Response) -> str | None:
    """What tells that the file has not changed (RFC 9110, 13.1.5); None where parts cannot be told to fit together."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _written(response: requests.Response, part: _Part, lease: Lease) -> Iterator[int]:
    """Write what comes; yields once per megabyte."""
    with part.path.open("ab") as file:
        written = 0
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            written += len(chunk)
            if written >= _MEGABYTE:
                if not lease.owned:
                    raise OSError(f"another job has taken over the fetching of {part.path.stem}")
                file.flush()
                written -= _MEGABYTE
                yield 1
        if written:
            yield 1
