"""The canonical parameters as arguments."""

from tests.limits.meanfield.canonical import COV, MEAN, T1, K, Q, V

QKV = {"Q": Q, "K": K, "V": V}
LAW = {"mean": MEAN, "cov": COV, "t1": T1}
