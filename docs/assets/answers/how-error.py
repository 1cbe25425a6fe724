import jax
import numpy as np

from translimit import solve
from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving

sde = CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=np.eye(3), t1=0.5)
solution = solve(sde, StructurePreserving(paths=400), key=jax.random.key(0), save=[0.5])
print("mean of log det:", solution.mean_log_det())
print("error of the steps:", f"{float(solution.discretisation):.2g}")
