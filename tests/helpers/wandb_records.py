"""Reads what wandb wrote into a folder: the records of its `.wandb` file, a log in the format of LevelDB.

The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md with another checksum, CRC-32,
behind seven bytes that name it; a record is a message of wandb's own protocol.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 20.0
"""Seconds."""
_HEAD, _BLOCK = b":W&B\xe1\xbe\x00", 32768
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(folder: Path) -> list[Any]:
    """Every record of the one `.wandb` file in the folder of a run that has ended, each checksum of which is right.

    The program that wandb starts may write the last ones a moment after the run has ended.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    (file,) = folder.glob("*.wandb")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            read = [Record.FromString(data) for data in _messages(file.read_bytes())]
            assert read and read[-1].HasField("exit"), "the run has not ended"
            return read
        except (AssertionError, struct.error):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _messages(content: bytes) -> Iterator[bytes]:
    assert content[:7] == _HEAD, content[:7]
    parts: list[bytes] = []
    for kind, data in _chunks(content):
        parts.append(data)
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts = []
    assert not parts, "the last record is not whole"


def _chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = len(_HEAD)
    while place < len(content):
        if (left := _BLOCK - place % _BLOCK) < 7:  # padding
            place += left
            continue
        checksum, length, kind = struct.unpack("<IHB", content[place : place + 7])
        data = content[place + 7 : place + 7 + length]
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum, f"damaged at byte {place}"
        assert kind in (_WHOLE, _FIRST, _MIDDLE, _LAST)
        yield kind, data
        place += 7 + length


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, a row per step, `_step` among its keys."""
    rows = [record.history for record in records(folder) if record.HasField("history")]
    return [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in row.item}
        | {"_step": row.step.num}
        for row in rows
    ]


def artifacts(folder: Path) -> dict[str, dict[str, Path]]:
    """By type, the files of each artifact: its name in it, and where its copy lies."""
    logged = [
        record.request.log_artifact.artifact for record in records(folder) if record.request.HasField("log_artifact")
    ]
    logged += [record.artifact for record in records(folder) if record.HasField("artifact")]
    return {each.type: {entry.path: Path(entry.local_path) for entry in each.manifest.contents} for each in logged}
