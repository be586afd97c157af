"""What single units of classifiers and generators respond to, and what they cause (Bau et al. 2020)."""
