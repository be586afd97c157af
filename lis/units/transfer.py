"""Whether a unit does the same in every class (paper §4.3, Fig. 4B; S21, S22, S26)."""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from lis.quantify.measures import MEASURES
from lis.units.correlation import pearson
from lis.units.effects import Effects
from lis.units.ranking import by_size
from lis.units.tables import long_table


def transfer(effects: Effects) -> pd.DataFrame:
    """What the unit that changes a label most does in each class, for every label and measure.

    Returns:
        label, measure, class, unit (the first of the ranking over the samples of all classes; none has a change: no
        row), change (mean over the samples of the class, see `Average`).
    """
    ranked = effects.average.ranked[:, effects.kept].movedim(0, -1)
    first = by_size(ranked)[..., :1]
    changes = effects.by_class.value[:, :, effects.kept].permute(2, 3, 1, 0)
    axes = {"label": effects.kept_labels, "measure": MEASURES, "class": effects.tuned.class_names}
    of_first = changes.gather(-1, first[:, :, None].expand(*changes.shape[:3], 1))[..., 0]
    known = ~ranked.gather(-1, first).isnan()
    table = long_table(axes, {"unit": effects.tuned.unit[first], "change": of_first, "known": known})
    return pd.DataFrame(table[table.pop("known")]).reset_index(drop=True)


def class_agreement(effects: Effects) -> pd.DataFrame:
    """How alike the units' effects are in two classes: label, measure, class_a, class_b, r (Pearson, over units).

    Each pair of classes once.
    """
    change, names = effects.by_class.effect[:, :, effects.kept].numpy(), effects.tuned.class_names
    parts = [
        long_table(
            {"label": effects.kept_labels, "measure": MEASURES},
            {"class_a": names[a], "class_b": names[b], "r": pearson(change[:, a], change[:, b])},
        )
        for a, b in combinations(range(len(names)), 2)
    ]
    return pd.concat(parts, ignore_index=True) if parts else _EMPTY


_EMPTY = pd.DataFrame({"label": [], "measure": [], "class_a": [], "class_b": [], "r": []})
