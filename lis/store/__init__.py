"""Content-addressed artifacts on disk: what was computed once is read from then on, by every run on the same store.

An artifact's key is the hash of everything that it depends on (its `Recipe`). It is written into a folder of its own
and published with one rename, so that a half-written artifact is never read; checksums are verified before an artifact
is used, and a damaged one is set aside and made again. A lock keeps two jobs from doing the same work, and only that:
of two that do it nevertheless, as after a pause, both read what the first one published.
"""

from typing import TYPE_CHECKING, Any

from lis.store.artifacts import MANIFEST, Artifact, Damaged, Draft, Recipe, read_artifact, sha256
from lis.store.faults import check_writable, disk_fault
from lis.store.packs import Packs, pack

if TYPE_CHECKING:
    from lis.store.store import Store

__all__ = [
    "MANIFEST",
    "Artifact",
    "Damaged",
    "Draft",
    "Packs",
    "Recipe",
    "Store",
    "check_writable",
    "disk_fault",
    "pack",
    "read_artifact",
    "sha256",
]


def __getattr__(name: str) -> Any:
    """`Store`, which is imported when it is asked for: it needs torch, and `python -m lis.store` does not."""
    if name == "Store":
        from lis.store.store import Store

        return Store
    raise AttributeError(f"module 'lis.store' has no attribute {name!r}: expected one of {', '.join(__all__)}")
