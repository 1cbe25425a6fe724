"""One flag of XLA, without which sums of products are wrong on a CPU.

XLA of jaxlib 0.10.2, 0.11.0 and 0.11.1 hands reductions that follow a product to a library
(YNNPACK) and gets wrong numbers back for some shapes, without a word: in 0.10.2

    jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(x)

for x of 16,385 rows and more in float64, in all three a reduction of a product with a constant.
With

    --xla_cpu_experimental_ynn_fusion_type=-reduce

in XLA_FLAGS they are right. XLA reads its flags once, when JAX starts its first computation, so
that importing translimit before it is enough. A value that XLA_FLAGS has already is kept.

Source: github.com/jax-ml/jax, issue 39103, and our own runs of both programs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import warnings
from pathlib import Path

#: The flag, and what it is set to.
NAME, VALUE = "--xla_cpu_experimental_ynn_fusion_type", "-reduce"
#: Versions of jaxlib that know it: XLA ends the process at a flag that it does not know.
FIRST, BEYOND = (0, 10, 2), (0, 12)


def reduce_rightly() -> None:
    """Put the flag into XLA_FLAGS, or warn where JAX has started without it."""
    flags, version = os.environ.get("XLA_FLAGS", ""), _jaxlib()
    if version is None or not FIRST <= version < BEYOND or f"{NAME}=" in flags:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {NAME}={VALUE}".strip()
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        warnings.warn(
            "JAX has started before translimit was imported, and XLA sums some products wrongly on "
            f"a CPU unless {NAME}={VALUE} is among its flags; import translimit before the first "
            "computation, or set XLA_FLAGS",
            RuntimeWarning,
            stacklevel=3,
        )


def _jaxlib() -> tuple[int, ...] | None:
    """The version of jaxlib, from its file: importing it would take longer than all of this.

    None where there is no such file: then nothing is known of its flags.
    """
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"""^_version = ["'](\d+(?:\.\d+)*)""", text, re.MULTILINE)
    return None if found is None else tuple(map(int, found[1].split(".")))
