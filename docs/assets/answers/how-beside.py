import jax
import numpy as np

from translimit import solve
from translimit.describe import WideHeads
from translimit.limits.homogenized import SimplexClosure
from translimit.models import RandomHeadChain

law = WideHeads(dim=64, score_std=1.0)
chain = RandomHeadChain(law=law, step=0.1, heads=1, layers=200)
paths = chain.simulate_overlaps(np.eye(8), replicas=400, key=jax.random.key(0))
mean = paths.mean_overlaps[:, -1]
limit = solve(SimplexClosure(law=law, tokens=8, t1=200 * 0.1**2)).overlap[-1]
print(f"networks {mean.mean():.3f} ± {mean.std() / 20:.3f}, limit {limit:.3f}")
