"""The base of problems, methods and models: an equinox module that names missing arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx

from translimit.core.missing import Telling

if TYPE_CHECKING:
    Module = eqx.Module
else:

    class _TellingModule(Telling, type(eqx.Module)):
        """Equinox's metaclass, which names missing and unknown arguments."""

    class Module(eqx.Module, metaclass=_TellingModule):
        """An immutable pytree whose missing arguments are named with their meaning."""
