"""Castin, Ablin, Carrillo and Peyré (arXiv 2501.18322): the Transformer PDE."""
