"""Content-addressed artifacts on disk: what was computed once is read from then on, by every run on the same store.

An artifact's key is the hash of everything that it depends on (its `Recipe`). It is written into a folder of its own
and published with one rename, so that a half-written artifact is never read; checksums are verified before an artifact
is used, and a damaged one is set aside and made again. A lock keeps two jobs from doing the same work, and only that:
of two that do it nevertheless, as after a pause, both read what the first one published.
"""

from lis.store.artifacts import MANIFEST, Artifact, Damaged, Draft, Recipe, read_artifact, sha256
from lis.store.faults import check_writable, disk_fault
from lis.store.store import Store

__all__ = [
    "MANIFEST",
    "Artifact",
    "Damaged",
    "Draft",
    "Recipe",
    "Store",
    "check_writable",
    "disk_fault",
    "read_artifact",
    "sha256",
]
