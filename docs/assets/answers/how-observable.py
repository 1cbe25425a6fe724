import jax.numpy as jnp
import numpy as np

from translimit import solve
from translimit.attention import Softmax
from translimit.limits.meanfield import ParticleFlow

tokens = np.random.default_rng(0).normal(size=(200, 2))
attention = Softmax(Q=np.eye(2), K=np.eye(2), V=-np.eye(2))
flow = ParticleFlow(attention=attention, initial=tokens, t1=2.0)
radius = {"radius": lambda t, x: jnp.sqrt((x**2).sum(-1).mean())}
solution = solve(flow, observe=radius, keep_states=False, save=[0.0, 1.0, 2.0])
print(np.round(solution.observed["radius"], 3))
