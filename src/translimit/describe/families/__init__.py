"""Families of transformers, one record each: what files, parameters and blocks of a family are.

| family | block | initialisation (the reference implementation's, before training) |
|---|---|---|
| gpt2 | layer norm, tanh GELU, learned positions | N(0, s^2); W_O and W_2 divided by (2 L)^{1/2} |
| llama, mistral, qwen2 | RMS norm, gated SiLU, rotary, grouped queries | N(0, s^2) throughout |
| gpt_neox | layer norm, GELU, partial rotary, parallel blocks | N(0, s^2) throughout |
| vit | layer norm, GELU, class token, learned positions, no mask | N(0, s^2) throughout |

s is `initializer_range`. Biases start at zero and gains of norms at one; no dropout acts.

A family is added by a file that makes its `Family` and by its entry in `known.FAMILIES`. The
readers of configurations (`read_architecture`, `read_stack_sizes`), the adapters of the scaling
rules and the checks of models ask the record and hold no list of their own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
