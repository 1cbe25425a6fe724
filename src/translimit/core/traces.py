"""Traced functions that are kept from one process to the next, beside the programs made of them.

JAX finds a kept program (`programs`) by the text that it lowers a function to, and to trace and
lower one takes several times as long as to read its machine code. `kept_jit` keeps that text too,
in JAX's portable form (`jax.export`: data, no pickle), in the folder of the programs, which nobody
else can write. Its name is a digest of everything that it follows from: the source of the rooms
that the function is in or may call, versions, settings, static arguments, shapes and types. A file
that is damaged, or that this version of JAX refuses, is written anew.

A digest of the source does not tell that somebody has replaced a function of ours in this process.
So traces are kept within `traces_kept` alone, for commands, and where programs are. Otherwise, and
on traced values or several devices, the function is `jax.jit` of itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import jax
import numpy as np
from jax.core import Tracer

from translimit._version import __version__
from translimit.core.errors import ArgumentTypeError
from translimit.core.files import write_bytes
from translimit.core.programs import folder_in_use

R = TypeVar("R")

#: Raised where what is written changes.
FORMAT = 1
#: Settings of JAX that change what is traced.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_debug_nans",
    "jax_disable_jit",
)
#: Rooms that any function may call, besides that of its own module.
ROOMS = ("core", "describe", "attention", "observe")
_SUM = hashlib.sha256().digest_size

_kept = False


@contextlib.contextmanager
def traces_kept() -> Iterator[None]:
    """Keep traces meanwhile, where programs are kept: in a command, whose functions are our own."""
    global _kept
    before, _kept = _kept, True
    try:
        yield
    finally:
        _kept = before


def kept_jit(
    *,
    static: int,
    compiler_options: Mapping[str, Any] | None = None,
    tuples: tuple[type, ...] = (),
) -> Callable[[Callable[..., R]], KeptFunction[R]]:
    """Compile a function as `jax.jit` does, and keep what is traced where programs are kept.

    Args:
        static: how many of the first arguments are static: numbers, words, enumerations, None,
            and tuples and frozen dataclasses of them. The others are arrays and numbers.
        compiler_options: for XLA.
        tuples: the classes of named tuples among arguments and results.

    Examples:
        >>> import numpy as np
        >>> from translimit.core import kept_jit
        >>> @kept_jit(static=1)
        ... def power(exponent, x):
        ...     return x**exponent
        >>> float(power(3, np.float32(2.0)))
        8.0
    """

    def decorate(function: Callable[..., R]) -> KeptFunction[R]:
        return KeptFunction(function, static, compiler_options, tuples)

    return decorate


@final
class KeptFunction(Generic[R]):
    """A compiled function whose traces are kept; see `kept_jit`.

    Attributes:
        jitted: the function under `jax.jit`, by which it is traced.
    """

    def __init__(
        self,
        function: Callable[..., R],
        static: int,
        compiler_options: Mapping[str, Any] | None,
        tuples: tuple[type, ...],
    ):
        functools.update_wrapper(self, function)
        self._options = None if compiler_options is None else dict(compiler_options)
        places = tuple(range(static))
        self.jitted = jax.jit(function, static_argnums=places, compiler_options=self._options)
        self._function, self._static, self._tuples = function, static, tuples
        self._ready: dict[Hashable, Callable[..., R]] = {}

    def __call__(self, *args: Any) -> R:
        """Call the function."""
        folder = folder_in_use() if _kept else None
        traced = args[self._static :]
        leaves, tree = jax.tree.flatten(traced)
        if folder is None or any(isinstance(leaf, Tracer) for leaf in leaves):
            return self.jitted(*args)
        settings = tuple(getattr(jax.config, name, None) for name in SETTINGS)
        which = (args[: self._static], tree, tuple(map(_kind, leaves)), settings)
        made = self._ready.get(which)
        if made is None:
            made = self._ready[which] = self._made(folder, args, which)
        return made(*traced)

    def clear_cache(self) -> None:
        """Forget what this process has traced and compiled; files stay."""
        self._ready.clear()
        self.jitted.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]

    def _made(self, folder: Path, args: tuple[Any, ...], which: Any) -> Callable[..., R]:
        """The function for these static arguments: what is kept of it, or traced and kept now."""
        plain = functools.partial(self.jitted, *args[: self._static])
        if jax.default_backend() != "cpu" or getattr(jax.config, "jax_disable_jit", False):
            return plain
        if not jax.sharding.get_abstract_mesh().empty:
            return plain
        try:
            path = folder / f"{self._function.__name__}-{self._digest(which)}.trace"
            self._register()
            exported = _read(path) or self._write(path, args)
        except (ImportError, NotImplementedError, ArgumentTypeError):
            return plain  # without flatbuffers, or of what cannot be kept
        # Compiled here: `jit` would compile again for arrays that a program returned.
        jitted = jax.jit(exported.call, compiler_options=self._options)
        return jitted.lower(*args[self._static :]).compile()

    def _digest(self, which: tuple[Any, ...]) -> str:
        static, tree, kinds, settings = which
        module = sys.modules[self._function.__module__]
        own = Path(str(module.__file__)).parent
        versions = __version__, jax.__version__, np.__version__, sys.version
        told = (FORMAT, versions, _source(own), settings, module.__name__, str(tree), str(kinds))
        return hashlib.sha256(repr((told, _words(static))).encode()).hexdigest()[:32]

    def _register(self) -> None:
        from jax import export

        for one in self._tuples:
            with contextlib.suppress(ValueError):  # it is registered
                name = f"{one.__module__}.{one.__qualname__}"
                export.register_namedtuple_serialization(one, serialized_name=name)

    def _write(self, path: Path, args: tuple[Any, ...]) -> Any:
        from jax import export

        try:
            exported = export.export(self.jitted)(*args)
            content = bytes(exported.serialize())
        except ValueError as error:
            # A call of a library that JAX does not promise to have in its next version.
            if "custom call" not in str(error):
                raise
            raise NotImplementedError(str(error)) from error
        with contextlib.suppress(OSError):
            write_bytes(path, hashlib.sha256(content).digest() + content)
        return exported


def _read(path: Path) -> Any:
    """What is kept; None where nothing is, or where it is damaged or of another version."""
    from jax import export

    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_SUM:]).digest() != content[:_SUM]:
        return None
    try:
        return export.deserialize(bytearray(content[_SUM:]))
    except Exception:  # what is no trace raises whatever the parser meets first
        return None


def _kind(leaf: Any) -> tuple[Any, ...]:
    """What of a number or an array decides the trace."""
    if isinstance(leaf, (np.ndarray, np.generic, jax.Array)):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    return (type(leaf),)


def _words(value: Any) -> Any:
    """A static argument with all that equality looks at, in a form whose text is unique."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case enum.Enum():
            return (type(value).__qualname__, value.name)
        case tuple():
            return tuple(map(_words, value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            told = tuple((one.name, _words(getattr(value, one.name))) for one in fields)
            return (type(value).__qualname__, told)
    raise ArgumentTypeError("static", f"got {type(value).__name__}", "pass plain data")


@functools.cache
def _source(own: Path) -> str:
    """A digest of the source that a function of a folder may call."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in sorted({own, *(package / room for room in ROOMS)}):
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
