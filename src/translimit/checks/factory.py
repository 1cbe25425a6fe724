"""Factories: somebody's function from a trial to a network that can be checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

from translimit.checks.errors import FactoryError, guarded
from translimit.checks.trial import Trial
from translimit.core import nearest

if TYPE_CHECKING:
    from translimit.checks.jax_model import JaxModel
    from translimit.checks.torch_model import TorchModel

Factory: TypeAlias = "Callable[[Trial], TorchModel | JaxModel]"


def load_factory(name: str) -> Factory:
    """The factory called `module:function`.

    Raises:
        FactoryError: no such module or function, a module that fails to import, or no function.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise FactoryError("factory", f"got {name!r}", "write module:function")
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise FactoryError(
            "factory",
            f"the module {module!r} cannot be imported ({type(error).__name__}: {error})",
            "run from its folder, or install it",
        ) from error
    found = getattr(loaded, attribute, None)
    if found is None:
        known = [key for key, value in vars(loaded).items() if inspect.isfunction(value)]
        advice = nearest(attribute, known)
        raise FactoryError("factory", f"{module!r} has no {attribute!r}", advice)
    if not callable(found):
        raise FactoryError("factory", f"{name!r} is not a function", "name a function of one Trial")
    return cast("Factory", found)


def make(factory: Factory, trial: Trial) -> TorchModel | JaxModel:
    """What a factory makes of a trial.

    Raises:
        FactoryError: it raises, or returns something else than a `TorchModel` or `JaxModel`.
    """
    from translimit.checks.jax_model import JaxModel
    from translimit.checks.torch_model import TorchModel

    made: object = guarded("factory", lambda: factory(trial))
    if not isinstance(made, TorchModel | JaxModel):
        raise FactoryError(
            "factory",
            f"returned {type(made).__name__}",
            "return a TorchModel or a JaxModel of translimit.checks",
        )
    return made
