"""The rules in other people's models: PyTorch and Hugging Face, optax, Megatron-LM, torchtitan.

Nothing here imports torch, transformers, optax or JAX until a model is passed.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
