"""Reads pickles, and the files that `torch.save` makes of them, without executing or importing anything in them."""
