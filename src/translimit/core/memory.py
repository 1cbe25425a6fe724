"""Computations that will not fit are refused by name, before anything is allocated.

What an allocation asks for can be foreseen from shapes: the states that a solve keeps, the
covariances of an ensemble. Without a look at what is free it would end in an error of XLA's, or in
the end of the process.
"""

from __future__ import annotations

from translimit.core.errors import MemoryLimitError
from translimit.core.resources import available_memory

#: Bytes below which nobody looks at what is free: to load and to compile anything needs more.
SMALL = 2**26


def fits(need: float | int) -> bool:
    """Whether so many bytes are free where JAX's arrays live; what is small always is."""
    return need < SMALL or need <= available_memory()


def require_free(need: float | int, argument: str, what: str, remedy: str) -> None:
    """Refuse what does not fit.

    Args:
        need: bytes that will be held at once.
        argument: the argument to change.
        what: what needs them, in words.
        remedy: what the caller can do.

    Raises:
        MemoryLimitError: fewer are free.
    """
    if not fits(need):
        need_and_free = f"{need / 1e9:.2f} GB, and {available_memory() / 1e9:.2f} GB are free"
        raise MemoryLimitError(argument, f"{what} need about {need_and_free}", remedy)


def require_kept(each: float | int, depths: int, samples: str, what: str) -> None:
    """Refuse states at many depths that do not fit, by what there is too much of.

    Args:
        each: bytes of the states at one depth.
        depths: how many are kept.
        samples: the argument that says how many samples there are.
        what: what is kept, in words.

    Raises:
        MemoryLimitError: it names `save_every` where the first and the last depth alone would fit,
            else `samples`.
    """
    few = fits(2 * each)
    require_free(
        depths * each,
        "save_every" if few else samples,
        f"{what} at {depths} depths",
        "keep fewer layers" if few else f"take fewer {samples}",
    )
