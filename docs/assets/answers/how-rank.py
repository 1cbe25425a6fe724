import numpy as np

from translimit import solve
from translimit.attention import Softmax
from translimit.limits.meanfield import GaussianLimit, rank_bound

query = np.array([[1.0, 0.5, 0.0]])
attention = Softmax(Q=query, K=-query, V=np.eye(3))
limit = solve(GaussianLimit(attention=attention, cov=np.diag([1.0, 0.5, 0.3])))
print("rank at most", rank_bound(query), "and found:", int(limit.rank))
