"""Classifiers, cut at the input of their last linear layer."""
