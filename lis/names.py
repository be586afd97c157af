"""Names of files and of what a user types: as text that can be shown, and the known one that is most like."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice

_COMPARED = 5_000
"""Names that one is compared with: a tenth of a second."""


def printable(name: str) -> str:
    r"""A file's name as text that can be shown and written anywhere; two names never become the same text.

    Bytes that are not UTF-8, characters that cannot be seen and backslashes are escaped.

    Example:
        >>> printable(os.fsdecode(b"caf\xe9.png")), printable("two\nlines"), printable("Häuser 2.png")
        ('caf\\xe9.png', 'two\\nlines', 'Häuser 2.png')
    """
    text = os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like a name, among the first thousands; nothing where none is.

    Example:
        >>> nearest("ears", ["leg", "ear"])
        '; did you mean ear?'
    """
    result = most_like(name, known, 1)
    return f"; did you mean {result[0]}?" if result else ""


def most_like(name: str, known: Iterable[str], most: int) -> list[str]:
    """The known names that are like a name, among the first thousands, the one that is most like first.

    Example:
        >>> most_like("fc_3", ["lr", "fc_l1", "ridge", "fc_l2"], most=2)
        ['fc_l2', 'fc_l1']
    """
    like = {other.lower(): other for other in islice(known, _COMPARED)}
    return [like[result] for result in difflib.get_close_matches(name.lower()[:100], like, n=most)]
