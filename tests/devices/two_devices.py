"""What `test_two_devices.py` runs where JAX sees two devices: everything on one, then on both."""

import json
import sys
import time

import jax
import numpy as np

from translimit import describe, solve, train
from translimit.attention import Softmax
from translimit.attention.tiles import softmax_average
from translimit.core import over_devices
from translimit.experiments.bordelon2024 import networks
from translimit.limits.homogenized import OverlapSDE, SphereEuler
from translimit.limits.meanfield import ParticleFlow
from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving


def covariance_paths():
    """An odd number of paths: the last device computes one that nobody asked for."""
    sde = CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=np.eye(3), t1=0.2)
    return solve(sde, StructurePreserving(paths=7), key=jax.random.key(0), save=[0.2]).cov


def sphere_paths():
    law = describe.GaussianHeads(dim=16, beta=1.0, sigma_a=1.0)
    problem = OverlapSDE(law=law, initial=np.eye(3), t1=1.0)
    method = SphereEuler(max_step=0.1, paths=7)
    return solve(problem, method, key=jax.random.key(0), save=[1.0]).overlaps


def training():
    shape = describe.TransformerShape(
        head_dim=4, heads=2, layers=1, tokens=8, patch_dim=8, outputs=10
    )
    # Plain gradient steps: Adam divides gradients that are zero but for rounding by themselves.
    plan = train.Training(
        steps=3, rates=(0.1, 0.3), seeds=4, batch=8, optimizer=train.Optimizer("sgd")
    )
    history = train.train(
        shape,
        None,
        networks.images("digits"),
        plan,
        key=jax.random.key(0),
        observe=(train.ProbeLoss(),),
        observe_at=(0, 3),
        probe=16,
    )
    weights = [np.ravel(value) for _, value in sorted(history.weights.items())]
    return np.concatenate([history.losses.ravel(), history["probe_loss"].ravel(), *weights])


def particles():
    """More logits than one tile, an odd number of tokens (each device has its part, padded)."""
    tokens = np.random.default_rng(0).normal(size=(1101, 2))
    attention = Softmax(Q=np.eye(2), K=[[0.5, 0.2], [-0.1, 0.3]], V=np.eye(2))
    flow = ParticleFlow(attention=attention, initial=tokens, t1=0.2)
    return solve(flow, save=[0.2]).tokens


def attention_gradient():
    """The derivative through causal attention by the queries, the keys and the values."""
    rng = np.random.default_rng(1)
    queries, keys, values = (rng.normal(size=(1100, 2)).astype(np.float32) for _ in range(3))
    places = np.arange(1100.0, dtype=np.float32)

    def total(parts):
        bias = np.zeros(1100, np.float32)
        return (softmax_average(*parts, bias, places, places) ** 2).sum()

    return np.stack(jax.jit(jax.grad(total))((queries, keys, values)))


CASES = {
    f.__name__: f for f in (covariance_paths, sphere_paths, training, particles, attention_gradient)
}


def main(names):
    """Print, for each case, the largest difference relative to the largest number."""
    found = {"devices": len(jax.devices())}
    for name in names:
        case, started = CASES[name], time.process_time()
        alone = np.asarray(case())
        with over_devices():
            together = np.asarray(case())
        assert alone.shape == together.shape
        assert np.isfinite(alone).all()
        difference = np.abs(alone - together).max() / np.abs(alone).max()
        seconds = time.process_time() - started
        found[name] = {
            "difference": float(difference),
            "dtype": str(alone.dtype),
            "seconds": seconds,
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
