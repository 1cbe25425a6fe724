from .concentration import concentration as concentration
from .kernels import activation_kernel as activation_kernel
from .propagation import Chain as Chain
from .propagation import Recursion as Recursion
from .propagation import SignalPropagation as SignalPropagation
from .readout import log_partition as log_partition
from .readout import readout_gradient as readout_gradient
from .solution import SignalSolution as SignalSolution
