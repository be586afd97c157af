"""What single units of the penultimate layer stand for, seen through the link."""
