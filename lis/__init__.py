"""Linking in Style: what single units of a classifier mean, seen through a generator that they are linked to."""

__version__ = "0.1.0"
