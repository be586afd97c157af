"""Where the points of one picture lie in another: matchers, affine alignment, local fields."""
