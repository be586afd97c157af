"""Fetches large files: with progress, and going on where a broken connection or a killed run left off."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from lis.files import read_json
from lis.lock import Lease
from lis.progress import Progress
from lis.stopping import stop
from lis.store import sha256

_PATIENCE = 10.0
"""Seconds without an answer after which the network counts as missing."""
_TRIES = 3
"""Times in a row that it is tried again without getting further, and times that a file is begun."""
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds in between, and the most where the server asks for more (`Retry-After`)."""
_CHUNK, _MEGABYTE = 2**16, 2**20
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_BUSY = (429, 502, 503, 504)

log = logging.getLogger(__name__)


class _Refused(requests.ConnectionError):
    """The rest of a file was asked for, and something else was answered."""


@dataclass
class _Part:
    """A file of which some may be here, under a name that only this job writes, `<name>.part-<8 hexadecimal digits>`;
    beside it (`.json`) what the server said of it.

    A former owner of the lock may only sleep, and go on with its open file some day: so what it has left is copied.
    Each beginning has another name, so that a file and its record belong together whenever they are read.
    """

    target: Path
    lease: Lease
    path: Path = field(init=False)
    ranges: bool = True
    """Whether the server may be asked for the rest: it has not refused."""
    begun: int = 0
    received: int = 0
    """Bytes that have come in this call."""

    def __post_init__(self) -> None:
        self.path = self._new_name()

    @property
    def record(self) -> Path:
        return _record(self.path)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def check(self) -> None:
        """Raises OSError once another job has taken over."""
        if not self.lease.owned:
            raise OSError(f"another job has taken over the fetching of {self.target.name}")

    def take_over(self) -> None:
        """Copy the largest part that former owners have left, and remove theirs."""
        pattern = re.compile(re.escape(self.target.name) + r"\.part(-[0-9a-f]{8})?(\.json)?")
        left = [file for file in self.target.parent.iterdir() if pattern.fullmatch(file.name) and file.is_file()]
        self.check()  # only now: what a later owner writes is not among these
        with suppress(FileNotFoundError):  # a former owner that wakes removes its part
            if begun := [file for file in left if _record(file) in left]:
                largest = max(begun, key=lambda file: file.stat().st_size)
                shutil.copyfile(_record(largest), self.record)
                shutil.copyfile(largest, self.path)
        for file in left:
            file.unlink(missing_ok=True)

    def leave(self) -> None:
        """Name it `<name>.part` for the next call, or remove it where another job goes on with its copy."""
        rest = self.target.with_name(f"{self.target.name}.part")
        with suppress(OSError):  # under its present name the next call takes it over as well
            if not self.lease.owned or rest.is_file():
                self.remove()
            elif self.size:
                if self.record.is_file():
                    self.record.replace(_record(rest))
                self.path.replace(rest)

    def headers(self, url: str) -> dict[str, str]:
        """What asks for the rest, if the file is still the one that was begun, else for all of it."""
        headers = {"Accept-Encoding": "identity"}
        try:
            begun = read_json(self.record)
        except ValueError:  # nothing is begun, or it is not known of what
            return headers
        if self.ranges and self.size and begun.get("url") == url and isinstance(begun.get("validator"), str):
            headers |= {"Range": f"bytes={self.size}-", "If-Range": begun["validator"]}
        return headers

    def begin(self, url: str, validator: str | None) -> None:
        self.remove()
        self.path = self._new_name()
        self.begun += 1
        if validator:
            self.record.write_text(json.dumps({"url": url, "validator": validator}))

    def remove(self) -> None:
        for file in (self.path, self.record):
            file.unlink(missing_ok=True)

    def _new_name(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part-{uuid.uuid4().hex[:8]}")


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def download(url: str, path: Path, digest: str = "") -> None:
    """Fetch a file that is not here yet; it has its name only when it is whole.

    What has come before the connection broke, or the run ended, lies in `<name>.part` (of a killed run: with a dash and
    eight digits more), and the next call asks for the rest of it (`Range`), if the file is still the same at its
    address (`If-Range`); else it begins anew. Of several jobs one fetches, and the others wait for it; one that stood
    still, and was taken over, waits as well.

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
    while not _attempt(url, path, digest):
        log.info("%s: another job has taken over, and is waited for", path.name)


def _attempt(url: str, path: Path, digest: str) -> bool:
    """Fetch under the lock what is not here yet; False where another job has taken the lock over meanwhile."""
    with Lease(path.with_name(f"{path.name}.lock"), label=path.name) as lease:
        try:
            if not path.is_file():
                _complete(url, path, digest, lease)
        except (OSError, ValueError):
            if lease.owned:
                raise
            return False
        finally:
            if lease.owned:
                lease.clear()
    return True


def _complete(url: str, path: Path, digest: str, lease: Lease) -> None:
    log.info("fetching %s into %s", url, path.parent)
    part = _Part(path, lease)
    try:
        part.take_over()
        resumed = _receive_all(url, part)
        if digest and resumed and not sha256(part.path).startswith(digest):
            log.warning("the parts of %s do not fit together: it is fetched anew", path.name)
            part.remove()
            _receive_all(url, part)
        if digest and not (actual := sha256(part.path)).startswith(digest):
            part.remove()
            raise ValueError(
                f"another hash than expected: its SHA-256 begins with {actual[: len(digest)]}, expected {digest}"
            )
        part.check()
        part.path.replace(path)
        part.remove()
    except BaseException:
        part.leave()
        raise


def _receive_all(url: str, part: _Part) -> bool:
    """Ask until all is here; True where some of it was here before."""
    resumed, failures, largest = False, 0, part.size
    while True:
        try:
            return _receive(url, part) or resumed
        except _Refused as error:  # once at most: from now on no range is asked for
            log.warning("%s; it begins anew", error)
            part.remove()
            part.ranges, largest = False, 0
        except requests.RequestException as error:
            failures = 0 if part.size > largest else failures
            largest = max(largest, part.size)
            if not _is_temporary(error, part) or max(failures, part.begun) >= _TRIES:
                raise
            failures += 1
            log.warning("%s: %.200s; asking for the rest after %.0f MB", url, error, part.size / _MEGABYTE)
            resumed = True
            _wait(_pause(error))


def _is_temporary(error: requests.RequestException, part: _Part) -> bool:
    """Whether the server is busy, or the connection broke that bytes had come by."""
    if error.response is not None:
        return error.response.status_code in _BUSY
    return isinstance(error, _BROKEN) and part.received > 0


def _pause(error: requests.RequestException) -> float:
    """Seconds until it is tried again, as the server asks for (RFC 9110, 10.2.3: a number or a date) within bounds."""
    stated = "" if error.response is None else error.response.headers.get("Retry-After", "")
    try:
        is_number = re.fullmatch(r"\d{1,9}", stated)
        seconds = float(stated) if is_number else parsedate_to_datetime(stated).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):  # nothing is stated that can be read
        return _PAUSE
    return min(max(seconds, _PAUSE), _LONGEST_PAUSE)


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop.check()
        time.sleep(min(left, 1.0))


def _receive(url: str, part: _Part) -> bool:
    """Ask once, and take what comes; True where it is added to what was here.

    Raises:
        requests.RequestException: there is no such file, or the connection broke.
    """
    headers, size = part.headers(url), part.size
    asked = "Range" in headers
    with requests.get(url, headers=headers, stream=True, timeout=_PATIENCE) as response:
        first, total = _range(response)
        if asked and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{size}":  # all was here, and not yet renamed
                return True
            raise _Refused(f"{url} has no bytes from {size:,} on")
        response.raise_for_status()
        if first != (size if asked else 0) and response.status_code == requests.codes.partial_content:
            error = _Refused if asked else requests.ConnectionError
            raise error(f"{url} sent bytes that were not asked for, or did not say which")
        if first == 0:
            part.ranges = part.ranges and headers.get("If-Range") != _validator(response)
            part.begin(url, _validator(response))
        megabytes = -(-total // _MEGABYTE) - first // _MEGABYTE if total else None
        label = f"{part.target.name}, MB" + f" after the first {first // _MEGABYTE}" * (first >= _MEGABYTE)
        for _ in Progress().track(_written(response, part), megabytes, label):
            stop.check()
    if total is not None and part.size != total:
        raise requests.ConnectionError(f"incomplete: {part.size:,} of {total:,} bytes")
    return first > 0


def _range(response: requests.Response) -> tuple[int, int | None]:
    """The first byte that is sent, -1 of a part that does not say it, and how many bytes the whole file has; None: not
    stated.
    """
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    if response.status_code == requests.codes.partial_content:
        stated = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", ""))
        return (int(stated[1]), int(stated[2])) if stated and not encoded else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) and not encoded else None


def _validator(response: requests.Response) -> str | None:
    """What tells that the file has not changed (RFC 9110, 13.1.5); None where parts cannot be told to fit together."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _written(response: requests.Response, part: _Part) -> Iterator[int]:
    """Write what comes; yields once per megabyte."""
    with part.path.open("ab") as file:
        written = 0
        for chunk in response.iter_content(_CHUNK):
            part.check()
            file.write(chunk)
            part.received += len(chunk)
            written += len(chunk)
            if written >= _MEGABYTE:
                file.flush()
                written -= _MEGABYTE
                yield 1
        if written:
            yield 1
