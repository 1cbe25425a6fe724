"""The rules in other people's models: PyTorch and Hugging Face, optax, Megatron-LM, torchtitan.

Nothing here imports torch, transformers, optax or JAX until a model is passed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
