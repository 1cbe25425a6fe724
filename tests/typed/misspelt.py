"""What a type checker must refuse; read by pyright with the source, and never run.

Every refusal is expected in its line: one that no longer comes is an error itself.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

import numpy as np

import translimit.experiments as ex
from translimit import solve
from translimit.attention import Softmax
from translimit.core import AbstractProblem
from translimit.experiments.noci2023 import sde_and_networks as compared
from translimit.experiments.noci2023.sde_and_networks import NETWORK, Config
from translimit.limits.meanfield import GaussianFlow, GaussianSolution

EYE = np.eye(2)


def solution_of_a_problem() -> None:
    """`solve` gives the solution of its problem, with its fields and no others."""
    attention = Softmax(Q=EYE, K=EYE, V=EYE)
    problem = GaussianFlow(attention=attention, mean=np.zeros(2), cov=EYE, t1=1.0)
    solution: GaussianSolution = solve(problem)
    print(solution.cov, solution.ts, solution.outcome, solution.discretisation)
    print(solve(problem).covariance_matrx)  # pyright: ignore[reportAttributeAccessIssue]
    other: int = solve(problem)  # pyright: ignore[reportAssignmentType]
    print(other)


def problem_of_a_solution(problem: AbstractProblem[GaussianSolution]) -> None:
    """The parameter of a problem is enough."""
    print(solve(problem).cov)
    print(solve(problem).overlap)  # pyright: ignore[reportAttributeAccessIssue]


def results_of_an_experiment(found: ex.Found[Config]) -> None:
    """Parts, points and arrays of an experiment."""
    at = ("full", 100)
    print(found(NETWORK, at).mean)
    print(compared.NETWRK)  # pyright: ignore[reportAttributeAccessIssue]
    print(found(NETWORK, at).meann)  # pyright: ignore[reportAttributeAccessIssue]
    print(found(NETWORK, "full"))  # pyright: ignore[reportArgumentType]
    print(found(NETWORK, ("full", "100")))  # pyright: ignore[reportArgumentType]
