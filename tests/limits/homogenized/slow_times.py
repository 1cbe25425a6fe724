"""Times of the slow law."""

QUARTERS = [0.25, 0.5, 0.75, 1.0]
