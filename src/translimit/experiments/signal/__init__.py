"""Signal propagation at initialisation: the recursion of any block against drawn networks."""
