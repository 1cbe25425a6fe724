"""Infinite limits of transformer training (Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712)."""
