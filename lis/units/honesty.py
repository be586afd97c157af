"""What makes a claim about a unit honest: does the change arrive, and is it more than a random direction does?"""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from lis.quantify.measures import MEASURES
from lis.units.effects import Effects
from lis.units.intervals import p_null


def selectivity(effects: Effects, kept: list[int]) -> Tensor:
    """Largest share of one label in the sum over labels of |mean log₂ ratio of area|, `[P]` in [1 / labels, 1].

    Args:
        effects: of units or directions.
        kept: places of the labels that count.

    Returns:
        NaN where no area changes.
    """
    size = effects.average.effect[:, kept, MEASURES.index("area")].abs().nan_to_num(0.0)
    largest = size.amax(1) if kept else size.sum(1)
    return largest / size.sum(1)


def honesty(effects: Effects, null: Effects) -> pd.DataFrame:
    """Means over samples of what tells an effect from an artefact.

    Args:
        effects: of the units.
        null: of random directions.

    Returns:
        unit, realised (share of the asked change that arrives when the images are encoded again), others (change of
        the other units, in their standard deviations), step_norm (‖Δw‖), selectivity, selectivity_p (share of random
        directions that are at least as selective).
    """
    tuned = effects.tuned
    own = selectivity(effects, effects.kept)
    return pd.DataFrame(
        {
            "unit": tuned.unit,
            "realised": tuned.realised.nanmean(1),
            "others": tuned.others.nanmean(1),
            "step_norm": tuned.step_norm.nanmean(1),
            "selectivity": own,
            "selectivity_p": p_null(own, selectivity(null, effects.kept)),
        }
    )
