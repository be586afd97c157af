"""What all links have in common."""

from __future__ import annotations

from pytorch_lightning import LightningModule
from torch import Tensor


class LinkModule(LightningModule):
    """A map from r to w̃ that can be stored: made again by `type(link)(**link.settings)` and `load_state_dict`.

    Args:
        settings: the constructor's arguments, `units` and `w_dim` among them.
    """

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self.settings = settings

    def __call__(self, r: Tensor) -> Tensor:
        """w̃ `[..., w_dim]` of r `[..., units]`."""
        return super().__call__(r)
