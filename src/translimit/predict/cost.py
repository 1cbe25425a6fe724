r"""What a prediction will cost, told before it starts: seconds and bytes, from sizes alone.

Operations are counted: of a pair of heads of n tokens and d entries, 8 n^3 + 6 n^2 d forward and,
for every gradient, about 8 n^3 + 16 n^2 d backward (of many tokens under a mask 2.5 n^3 forward,
and five eighths of the others: what is zero is left out), and some hundred for every entry of an
n x n matrix; heads in single precision take half. How many a second this machine does is a part of
what a product of two matrices does (`REACHED`), with all cores at hand. Seconds are right within a
factor of two or so; other work on the machine is not foreseen.

Memory is that of the copies that are passed at the same time: of every sub-block what enters it,
what its branches add and, behind norms, the sums, and of every level C and the overlaps.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from translimit.core import allowed_threads, one_blas_thread
from translimit.describe import Attention, Experts, LatentAttention, Stack, attentions, score_std
from translimit.limits.signal import (
    AT_ONCE,
    Chain,
    SignalPropagation,
    copies_at_once,
)
from translimit.predict.signals import (
    FEW_PAIRS,
    LARGE_SCORES,
    MANY_TOKENS,
    SPREAD_PAIRS,
    Effort,
)

#: Operations for an entry of the weights of a head, forward; backward twice as many.
ENTRY = 200.0
#: Operations for an entry of the kernels of hidden units.
KERNEL = 600.0
#: Operations for an entry of the matrices of a sub-block, forward and for every gradient.
PLAIN = 100.0
#: Operations over n^3 for the eigenvalues of the overlaps of a level.
LOOKED = 8.0
#: The part of a matrix that blocks of rows compute under a mask, or of a symmetric one.
SEEN = 0.625
#: Rows of the matrices whose product is timed.
ROWS = 384
#: The part of the speed of a matrix product of one thread that predictions reach in each.
REACHED = 0.5
#: What every thread beside the first adds to the speed of one, and how many count: two copies of
#: many tokens are passed together.
BESIDE, COUNTED = 0.7, 2
#: Seconds of what does not grow with sizes: kept programs are read, a page is written.
ALWAYS = 0.5
#: Scalars of the spread, at so many levels.
SLOPES = 16


@dataclass(frozen=True)
class Cost:
    """What a prediction will take, about.

    Attributes:
        seconds: of this machine, without loading and compiling.
        memory: bytes at the peak, besides those of the libraries.
        operations: how many are counted.
    """

    seconds: float
    memory: float
    operations: float

    def __str__(self) -> str:
        time = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        return f"about {time} and {self.memory / 1e9:.2g} GB"


@dataclass(frozen=True)
class Solves:
    """How a recursion is solved, and how often.

    Attributes:
        pairs: antithetic pairs of heads in the first layer.
        copies: independent recursions.
        back: how many gradients return.
        times: how many such solves.
    """

    pairs: int
    copies: int
    back: int = 1
    times: int = 1


def operations(stack: Stack, tokens: int, solves: Solves, *, single: bool) -> float:
    """Operations of the recursions of a stack.

    Args:
        stack: the stack.
        tokens: how many enter.
        solves: how they are solved.
        single: whether heads are computed in float32.
    """
    n, falls = float(tokens), not any(block.norm_post for block in stack.sub_blocks)
    many = tokens > MANY_TOKENS
    seen = SEEN if stack.causal and many else 1.0
    half = SEEN if many else 1.0
    precision = 0.5 if single else 1.0
    total = 0.0
    for number, layer in enumerate(stack.layers):
        pairs = max(1, solves.pairs // (number + 1)) if falls else solves.pairs
        for branch in (branch for block in layer for branch in block.branches):
            if isinstance(branch, (Attention, LatentAttention)):
                of = branch.head_dim
                values = branch.values if isinstance(branch, Attention) else branch.value_dim
                look = (6 * n**2 * of + 2 * ENTRY * n**2) * seen
                told = 8 * n**3 if n <= 2 * values else 8 * n**2 * min(values, 64) * half
                passed = (8 * n**2 * of + 2 * ENTRY * n**2) * seen + 8 * n**2 * of * half + told
                back = (look + solves.back * passed) * (solves.back > 0)
                total += pairs * (_mixing(stack, n) + look + back) * precision
                # Factors, of K and of every gradient.
                total += n**3 / 3 * (1 + (1 + solves.back) * (solves.back > 0))
            else:
                kernels = KERNEL * n**2 * half * precision
                if isinstance(branch, Experts):
                    kernels += 16 * pairs * 2 * n**2 * branch.count
                total += kernels * (1 + 2 * (solves.back > 0))
            total += PLAIN * n**2 * (1 + solves.back)
        total += LOOKED * n**3
    return total * solves.copies * solves.times


def chain_operations(stack: Stack, tokens: int, networks: int) -> float:
    """Operations of simulated networks on their way forward, all heads and hidden units drawn.

    Args:
        stack: the stack.
        tokens: how many enter.
        networks: how many networks.
    """
    n, dim, total = float(tokens), float(stack.dim), 0.0
    for branch in (branch for block in stack.sub_blocks for branch in block.branches):
        total += n**3 / 3 + 2 * n**2 * dim + 8 * n**2 * min(n, dim)
        if isinstance(branch, (Attention, LatentAttention)):
            values = branch.values if isinstance(branch, Attention) else branch.value_dim
            entries = 2 * branch.head_dim + 4 * values
            drawn = 2 * n * min(n, dim) * (2 * branch.head_dim + values)
            total += branch.heads * (n**2 * (entries + ENTRY) + drawn)
            continue
        inner, count = (branch.expert, branch.count) if isinstance(branch, Experts) else (branch, 1)
        drawn = 2 * n * min(n, dim) * inner.width * (1 + inner.gated)
        total += count * (drawn + 2 * n**2 * inner.width)
    return total * networks


def spread_operations(stack: Stack, tokens: int, pairs: int) -> float:
    """Operations of the spread over networks, by one adjoint pass.

    Args:
        stack: the stack.
        tokens: how many enter.
        pairs: antithetic pairs of heads in the first layer.
    """
    n, total, depth = float(tokens), 0.0, len(stack.layers)
    units = max(512, min(4096, 2**19 // tokens))
    for number, layer in enumerate(stack.layers):
        many = max(1, pairs // (number + 1))
        slopes = SLOPES * (1.0 - np.log1p(number) / np.log1p(depth))
        for branch in (branch for block in layer for branch in block.branches):
            if isinstance(branch, Attention):
                of, values = branch.head_dim, branch.values
                mixing = _mixing(stack, n)
                forth = mixing + 6 * n**2 * of + 2 * ENTRY * n**2
                total += many * (2 * forth + slopes * (2 * mixing + 20 * n**2 * of))
                head = 6 * n**2 * of + ENTRY * n**2 + 2 * n**2 * min(n, values) * (1 + slopes)
                total += 2 * many * branch.heads // branch.key_heads * head
            else:
                total += n * units * (2 * n + 100) + slopes * 2 * n**2 * units + KERNEL * n**2
        total += slopes * 8 * n**3 * len(layer)
    return total


def _mixing(stack: Stack, n: float) -> float:
    """Operations of P C P^T for a pair of heads."""
    return (2.5 if stack.causal and n > MANY_TOKENS else 8.0) * n**3


@dataclass(frozen=True)
class Asked:
    """What is asked for besides what layers do to tokens.

    Attributes:
        gradients: how many at the top.
        whole: whether the spread over networks is told.
        repeated: whether tokens that all differ are solved besides.
        others: how many other choices are solved.
    """

    gradients: int = 1
    whole: bool = True
    repeated: bool = False
    others: int = 0


def cost_of(stack: Stack, cov: Float[np.ndarray, "n n"], effort: Effort, asked: Asked) -> Cost:
    """What a prediction will take; what looks for other scales is not in it.

    Args:
        stack: the stack.
        cov: C of the tokens that enter [n, n].
        effort: how much is sampled.
        asked: what is told.
    """
    tokens, single, pairs = len(cov), len(cov) > MANY_TOKENS, effort.pairs
    own = Solves(pairs, effort.copies, back=asked.gradients)
    solves = [own]
    if asked.repeated:
        solves.append(replace(own, back=0))
    if any(score_std(one, stack.dim) > LARGE_SCORES for one in attentions(stack)):
        few = 1 if tokens > AT_ONCE else effort.copies
        solves += [replace(one, pairs=max(1, pairs // 2), copies=few) for one in solves]
    bare = 1 if tokens > AT_ONCE else 2
    solves += [Solves(1, bare, own.back), Solves(max(1, pairs // 2), 4, 1, times=asked.others)]
    total = sum(operations(stack, tokens, one, single=single) for one in solves)
    if effort.networks:
        total += chain_operations(stack, tokens, effort.networks)
        total += operations(
            stack, tokens, Solves(8, effort.networks, asked.gradients), single=False
        )
    elif asked.whole and not any(isinstance(one, LatentAttention) for one in attentions(stack)):
        many = FEW_PAIRS if tokens > MANY_TOKENS else SPREAD_PAIRS
        total += spread_operations(stack, tokens, many)
    memory = _memory(stack, tokens, effort.copies, back=asked.gradients)
    if effort.networks:
        problem = SignalPropagation(stack=stack, initial=cov, top_gradient=None)
        at_once = copies_at_once(effort.networks, tokens)
        memory = max(memory, problem.memory(Chain(max(2, at_once))))
    elif asked.whole:
        memory = max(memory, _memory(stack, tokens, 1, back=SLOPES))
    return Cost(ALWAYS + total / (REACHED * speed()), memory, total)


def _memory(stack: Stack, tokens: int, copies: int, *, back: int) -> float:
    """Bytes of the copies that are passed at the same time."""
    blocks = list(stack.sub_blocks)
    kept = sum(2 + (block.norm_post is not None) for block in blocks) if back else 0
    at_work = 12 + 8 * back
    matrices = kept + 4 * (len(stack.layers) + 1) + at_work
    return 8.0 * copies_at_once(copies, tokens) * tokens**2 * matrices


def speed() -> float:
    """Operations a second of this machine: of a product of two matrices, the best of five.

    In processor seconds of one thread, and times what several threads gain: on a machine with
    other work to do the seconds that pass say how long a product waited.
    """
    matrix = np.random.default_rng(0).normal(size=(ROWS, ROWS))
    least = np.inf
    with one_blas_thread():
        for _ in range(5):
            start = time.thread_time()
            np.matmul(matrix, matrix)
            least = min(least, time.thread_time() - start)
    threads = 1 + BESIDE * (min(allowed_threads(), COUNTED) - 1)
    return threads * 2 * ROWS**3 / max(least, 1e-6)
