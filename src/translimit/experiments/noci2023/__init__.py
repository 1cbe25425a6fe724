"""The shaped Transformer (Noci et al., arXiv 2306.17759)."""
