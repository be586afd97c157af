"""ImageNet's 1,000 classes by name, as class sets and generators name them."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from torchvision.models import ResNet50_Weights

ALIASES = {"giant_schnauzer": "schnauzer"}
"""What Wehrheim et al. 2024 call a class, by its name in torchvision: their Schnauzer is class 197."""


@lru_cache
def imagenet_names() -> tuple[str, ...]:
    """Names of the 1,000 logits in order, in lower snake case and each only once; `ALIASES` are applied.

    Two classes of the same name are told apart by their index.

    Example:
        >>> names = imagenet_names()
        >>> names[232], names[197], names[264], names[474]
        ('border_collie', 'schnauzer', 'cardigan_264', 'cardigan_474')
    """
    plain = [snake_case(name) for name in ResNet50_Weights.IMAGENET1K_V1.meta["categories"]]
    count = Counter(plain)
    unique = (name if count[name] == 1 else f"{name}_{index}" for index, name in enumerate(plain))
    return tuple(ALIASES.get(name, name) for name in unique)


def snake_case(name: str) -> str:
    """Lower-case words joined by underscores.

    Example:
        >>> snake_case("yellow lady's slipper"), snake_case("Shih-Tzu")
        ('yellow_ladys_slipper', 'shih_tzu')
    """
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"'(?=s\b)", "", name.lower())).strip("_")
