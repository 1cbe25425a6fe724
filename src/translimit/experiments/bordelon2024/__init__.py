"""Infinite limits of multi-head transformers (Bordelon et al., arXiv 2405.15712)."""
