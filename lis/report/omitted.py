"""What a run did without, and why: stages that it cannot have, and all that rests on parts where none is named."""

from __future__ import annotations

from lis.labels.labelled import NO_PARTS
from lis.report.section import Section, section
from lis.report.source import Source
from lis.report.wording import sentences

_PARTS = (
    "The class set names no parts (classes.labels is empty), so that nothing is segmented or measured{}; to have that, "
    "name some and label five images of each class (python -m lis.labels)."
)
_RANKED = ": there are no rankings of units, no sparsity, no map, and nothing to compare between classes but the answer"


@section(300)
def omitted(source: Source) -> Section | None:
    """A line; none where all that was asked for is there."""
    lines = [
        f"{stage.capitalize()} is left out: {reason}."
        for stage, reason in source.facts.omitted.items()
        if reason != NO_PARTS
    ]
    finding = f"{len(lines)} of the analyses asked for {'is' if len(lines) == 1 else 'are'} left out"
    if _asks_for_parts(source):
        lines.insert(0, _PARTS.format(_RANKED * source.has("unit_statistics")))
        finding = "Nothing is said of parts: the class set names none"
    return Section("Left out", sentences(*lines), finding=finding) if lines else None


def _asks_for_parts(source: Source) -> bool:
    """Whether a stage would have looked for parts, and the class set names none."""
    stages = [artifact for artifact in source.artifacts.values() if artifact.has("facts")]
    return source.facts.partless and (
        NO_PARTS in source.facts.omitted.values() or any("labels" in each.json("facts") for each in stages)
    )
