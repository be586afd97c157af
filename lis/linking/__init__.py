"""The link from activations to style codes, and how well it does."""
