"""What masks and images measure: area, luminance, entropy, eccentricity, angle; their change; its sparsity."""
