"""JSON of any origin is read within a bound of memory, or refused with the file's name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lis.files import LARGEST, memory, read_json

MEGABYTE = 2**20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.json"


def refused(file: Path, content: bytes, message: str) -> None:
    """Whether a file is refused with its name and what is wrong."""
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} .*{message}"):
        read_json(file)


def test_an_object_is_read(file: Path) -> None:
    """With a byte order mark or without, and whatever it holds."""
    file.write_bytes('{"a": [1, -0.5, null, true, "ä😀"], "b": {}}'.encode("utf-8-sig"))
    assert read_json(file) == {"a": [1, -0.5, None, True, "ä😀"], "b": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read .*expected JSON; save it again"),
        (b"\xff\xfe{}", "cannot be read .*utf-8"),
        (b"[1]", "holds list: expected a JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "too deeply nested"),
        (b'{"a": ' + b"9" * 4301 + b"}", "4300 digits"),
    ],
)
def test_anything_else_is_refused_with_the_name_of_the_file(file: Path, content: bytes, message: str) -> None:
    """A whole number of more than 4,300 digits raised an error of Python's without it."""
    refused(file, content, message)


def test_a_file_of_empty_lists_is_refused_before_it_is_parsed(file: Path) -> None:
    """60 MB of them took 2.2 GB."""
    refused(file, b'{"a": [' + b"[]," * (60 * MEGABYTE // 3) + b"0]}", r"holds too many values: .* 2,760 MB of memory")


def test_a_file_that_is_too_large_or_none_is_refused(file: Path, tmp_path: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match="bytes: expected at most 67,108,864"):
        read_json(file)
    with pytest.raises(ValueError, match="is not a file"):
        read_json(tmp_path)


_READ = """
import sys, pathlib
from lis.files import read_json
peak = lambda: int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
read_json(pathlib.Path(sys.argv[1]))
print(1024 * (peak() - before))
"""
HEAVY = {
    "lists": b"[],",
    "lists of one": b"[1.5],",
    "lists of lists": b"[[[[[[[[[[]]]]]]]]]],",
    "objects": b"{},",
    "members": b'{"a":1.5},',
    "long objects": b'{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6},',
    "texts": b'"ab",',
    "numbers": b"1e9,",
}


@pytest.mark.parametrize("values", [*HEAVY, "long text", "escaped text"])
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_the_memory_that_is_counted_is_enough(file: Path, values: str) -> None:
    """Whatever a file is made of, parsing takes no more than was said before."""
    unit = HEAVY.get(values, b"0,")
    text = {"long text": "a" * 3 * MEGABYTE + "😀", "escaped text": "a" * 3 * MEGABYTE + r"\ud83d\ude00"}.get(
        values, ""
    )
    content = b'{"a":[' + unit * (2 * MEGABYTE // len(unit)) + b'"' + text.encode() + b'"]}'
    file.write_bytes(content)
    process = subprocess.run([sys.executable, "-c", _READ, str(file)], capture_output=True, text=True, check=True)
    assert int(process.stdout) <= memory(content) + 8 * MEGABYTE  # of the process itself
