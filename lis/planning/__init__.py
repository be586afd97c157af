"""Plan before you pay: what a run will do, and what that takes, before any of it is done."""

from lis.planning.models import has_random_weights, planned_context
from lis.planning.plan import Plan
from lis.planning.run import announce, require_room, whole_plan
from lis.planning.text import facts, shown

__all__ = ["Plan", "announce", "facts", "has_random_weights", "planned_context", "require_room", "shown", "whole_plan"]
