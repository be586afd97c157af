"""Labelled images of one's own: exported to be labelled by a person, read back and checked."""

from lis.labels.reading import read
