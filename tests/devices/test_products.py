"""A float32 product of a job has the precision of float32, on whichever device it runs."""

import pytest

from translimit.core import visible_gpus
from translimit.execute import Job, ProcessPool

SIZE = 256
#: Of a sum of n products, each rounded, over the sum of their sizes: n u / (1 - n u), with the unit
#: roundoff u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.5).
BOUND = SIZE * 2**-24 / (1 - SIZE * 2**-24)

ON_A_CARD = [
    pytest.mark.gpu,
    pytest.mark.skipif(not visible_gpus(), reason="no NVIDIA device here"),
]


def error(device, **options):
    jobs = [Job("product", {"size": SIZE, **options})]
    (found,) = ProcessPool(workers=1).run("fake_experiments:product_error", jobs, device=device)
    assert found.error is None, found.error
    return found.value


@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=ON_A_CARD)])
def test_products_are_those_of_float32(fakes, device):
    assert 0 < error(device) < BOUND
    assert error(device, bits=11) > 4 * BOUND  # what TensorFloat-32 would keep of the inputs
