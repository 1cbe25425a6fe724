"""Trained checkpoints beside the same architecture with drawn weights, and the limits."""
