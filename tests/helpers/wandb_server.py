"""As much of a server of Weights & Biases as its client asks when it sends a run: it takes everything in."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY = "wandb-history.jsonl"


class Server(ThreadingHTTPServer):
    """What was sent, by runs: rows of their history in the lines where they were put, and names of artifacts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[str] = []
        self.groups: dict[str, str | None] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client may close its connections at any moment."""

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """What is said to an operation of GraphQL."""
        name = values.get("name", "")
        project = {"id": "p", "name": "lis", "entity": {"id": "e", "name": "somebody"}}
        rows = self.history.get(name)
        if operation == "UpsertBucket":
            self.groups[name] = values.get("groupName") or self.groups.get(name)
            return {"upsertBucket": {"bucket": {"id": "b", "name": name, "project": project}, "inserted": not rows}}
        if operation == "RunResumeStatus":
            return {"model": project | {"bucket": None if rows is None else _bucket(name, rows)}}
        if operation == "CreateRunFiles":
            files = [{"name": each, "uploadUrl": f"{self.address}/files"} for each in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if operation == "CreateArtifact":
            self.artifacts.append(values["input"]["artifactTypeName"])
            sequence = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
            return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}
        return {}

    def take(self, run: str, files: dict[str, Any]) -> None:
        """Put what a stream of files brings where it says."""
        if HISTORY in files:
            rows, at = self.history.setdefault(run, []), files[HISTORY]["offset"]
            new = [json.loads(line) for line in files[HISTORY]["content"]]
            rows[at : at + len(new)] = new


def _bucket(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    tail = json.dumps([json.dumps({"_step": rows[-1]["_step"], "_runtime": 1})])
    counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
    texts = {"summaryMetrics": "{}", "config": "{}", "historyTail": tail, "eventsTail": "[]", "wandbConfig": '{"t":1}'}
    return {"id": "b", "name": name, "displayName": name, "tags": [], "notes": ""} | counts | texts


class Handler(BaseHTTPRequestHandler):
    """Takes everything for JSON or for a file."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._content()
        self._reply({})

    def do_POST(self) -> None:
        content = self._content()
        if self.path.endswith("/graphql"):
            asked = json.loads(content)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._reply({"data": self.server.answer(operation[1] if operation else "", asked.get("variables") or {})})
        else:
            if self.path.endswith("/file_stream"):
                self.server.take(self.path.split("/")[-2], json.loads(content).get("files") or {})
            self._reply({"exitcode": None, "limits": {}})

    def _content(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine, as long as the block lasts."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
