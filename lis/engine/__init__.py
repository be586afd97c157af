"""How a stage's shards are mapped: one after the other in this process, or on many workers (`lis.distributed`).

Whatever the engine, shards go through the store: one that another job is making is left to it, the next one is taken
meanwhile, and so any number of runs on any machines that see the store share one run's work.
"""

from lis.engine.inprocess import InProcess
from lis.engine.task import Engine, Task

__all__ = ["Engine", "InProcess", "Task"]
