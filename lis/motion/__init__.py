"""Units as movement: what goes where along their range, and how well matchers find it."""
