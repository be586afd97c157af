"""Whether R and W are alike before anything is fitted (paper §4.1, Fig. 3A)."""

from __future__ import annotations

from lis.report.figures.similarity import similarity as similarity_figure
from lis.report.frames import mean
from lis.report.labels import number
from lis.report.sections import Picture, Section, means, metrics, section
from lis.report.source import Source
from lis.store import Artifact


@section(260, "similarity", "similarity")
def similarity(source: Source) -> Section:
    """ARI and RSA over the repetitions."""
    table = source.table("similarity", "similarity")
    told = {name: number(mean(table, name), 2) for name in table.columns if name != "repetition"}
    lead = (
        f"Clusters of R match the classes with an adjusted Rand index of {told['ari_r']}, clusters of W with "
        f"{told['ari_w']}; the similarities of samples in the two spaces correlate at {told['rsa_similarity']}, "
        f"their distances at {told['rsa_dissimilarity']}."
    )
    caption = (
        f"{len(table)} repetitions. Left: k-means clusters against class labels. Right: correlation between the "
        f"flattened (dis)similarity matrices of R and W. Numbers are means."
    )
    return Section("Similarity of R and W", lead, [Picture("similarity", similarity_figure(table), caption)])


@metrics("similarity")
def similarity_numbers(artifact: Artifact) -> dict[str, float]:
    """`ari_r`, `ari_w`, `rsa_similarity`, `rsa_dissimilarity`: means over repetitions."""
    table = artifact.table("similarity")
    return means(table, [name for name in table.columns if name != "repetition"])
