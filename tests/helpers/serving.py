"""A server on this machine, for what is fetched."""

from __future__ import annotations

import gc
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers without a word in the log."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def serving(handler: type[Quiet], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that answers with a handler, without a proxy in between."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    gc.collect(1)  # requests leaves the socket of a broken connection to the garbage collector, which warns
