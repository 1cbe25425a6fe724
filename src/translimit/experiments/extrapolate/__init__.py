"""From small runs to the infinite network: how well loss curves of larger ones are told."""
