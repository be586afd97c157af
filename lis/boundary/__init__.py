"""The decision boundary of a classifier: counterfactuals, what changes across them, and what else is said about them."""
