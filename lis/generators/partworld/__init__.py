"""Part world: a procedural renderer with exact masks and factors, and small generators fitted to it."""

from lis.generators.partworld.generator import PartWorld
from lis.generators.partworld.world import SETS, World, world
