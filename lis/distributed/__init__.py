"""Engines with workers, each with models of its own: on the devices of this machine, or of many through Ray.

A worker builds its models from the configuration (`serving`); what it is sent is a job without them (`transport`), then
blocks, in order and with back-pressure (`schedule`). What it makes goes through the store.
"""

from lis.distributed.local import Local
from lis.distributed.ray import Ray

__all__ = ["Local", "Ray"]
