import numpy as np

from translimit import observe, solve
from translimit.limits.meanfield import SphereFlow

tokens = np.random.default_rng(0).standard_normal((300, 3))
flow = SphereFlow(initial=tokens, t1=20.0, beta=9.0)
solution = solve(flow, save=[0.0, 4.0, 8.0, 20.0])
for depth, cloud in zip(solution.ts, solution.tokens, strict=True):
    count = observe.cluster_counts(cloud, observe.cluster_angle(9.0))
    print(f"depth {depth:g}: {count} clusters")
