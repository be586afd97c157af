"""Output that takes any text: what its encoding lacks is spelled in ASCII."""

from __future__ import annotations

import codecs
import io
import sys

PLAIN = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "→": "->", "≤": "<=", "≥": ">="}
    | {"“": '"', "”": '"', "‘": "'", "’": "'", "°": " deg", "ρ": "rho"}
    | {"Δ": "Delta ", "σ": "sigma", "β": "beta", "α": "alpha", "λ": "lambda"}
)
"""What stands for a character where the output has no such one."""


def print_anywhere() -> None:
    """Let stdout and stderr take any text: a character that their encoding lacks is spelled in ASCII.

    Without it the first dash ends a program whose output is not UTF-8 (`LC_ALL=C`, `PYTHONIOENCODING=ascii`), and so
    does a path that is not UTF-8 anywhere. Every command line calls it first.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lis.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: ASCII for what cannot be encoded, its number where nothing is like it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("lis.plain", _plain)
