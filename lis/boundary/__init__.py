"""The decision boundary of a classifier: counterfactuals, and what changes across it (paper §3.3, §4.5; S7–S9)."""
