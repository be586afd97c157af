"""The direction in R that a study is asked to go: of a unit, of a text, or a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lis.api.inputs import checked_perturbation, numbers, whole
from lis.context import Context
from lis.linking.pairs import pairs
from lis.store import Artifact
from lis.units.direction import check_direction, find_direction, of_direction
from lis.units.perturbation import Perturbation
from lis.units.unit import check_unit, of_unit


def requested_direction(ctx: Context, link: Artifact, unit: Any, direction: Any) -> tuple[Perturbation, str]:
    """The perturbation that a unit or a direction stands for, and its status.

    Args:
        ctx: of the study, with a classifier that is ready.
        link: the artifact of the fitted link.
        unit: its number, or None.
        direction: a `Perturbation`, a text such as "pc:1", the path of a file, `[units]` numbers, or None.

    Raises:
        ValueError: both or neither are given, or one of them names nothing.
    """
    if (unit is None) == (direction is None):
        given = "neither unit nor direction" if unit is None else f"unit={unit} and a direction"
        raise ValueError(f"{given}: expected one of them, as unit=12 or direction='pc:1'")
    units = ctx.classifier.units
    if isinstance(direction, Perturbation):
        return checked_perturbation(direction, units), "given"
    if unit is not None:
        along, known = of_unit(link.table("units"), check_unit(whole(unit, "unit"), units))
        return along, known["status"]
    train = pairs(ctx, "train").tensors("pairs")
    if isinstance(direction, (str, Path)):
        text = str(direction)
        check_direction(text, ctx.class_names, units)
        vector = find_direction(text, train["r"], train["class_index"], ctx.class_names)
    else:
        text, vector = "vector", numbers(direction, "direction")
        if vector.shape != (units,):
            raise ValueError(
                f"direction has shape {list(vector.shape)}: expected [{units}], a number per unit; 'pc:1' and "
                "'classes:<from>-<to>' are directions too"
            )
    along, known = of_direction(text, vector, train["r"])
    return along, known["status"]
