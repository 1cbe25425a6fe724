import numpy as np

from translimit import solve
from translimit.attention import Softmax
from translimit.limits.meanfield import GaussianFlow

attention = Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2))
flow = GaussianFlow(attention=attention, mean=np.zeros(2), cov=np.diag([0.5, 0.2]), t1=5.0)
print(f"the covariance is infinite at depth {float(solve(flow).blow_up_time):.4f}")
