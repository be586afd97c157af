"""Generators: `partworld`, an embedded world of parametric figures with known truth."""
