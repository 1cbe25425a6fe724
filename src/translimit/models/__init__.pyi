from .chain_paths import ChainPaths as ChainPaths
from .compressed_shaped_transformer import (
    CompressedShapedTransformer as CompressedShapedTransformer,
)
from .fields import Fields as Fields
from .head_layers import head_update as head_update
from .network_covariances import NetworkCovariances as NetworkCovariances
from .pair_paths import PairPaths as PairPaths
from .random_heads import RandomHeadChain as RandomHeadChain
from .random_readout import LanguageReadout as LanguageReadout
from .random_stack import RandomStack as RandomStack
from .residual_attention import ResidualAttention as ResidualAttention
from .shaped_transformer import ShapedTransformer as ShapedTransformer
from .sharp_heads import SharpHeadChain as SharpHeadChain
from .sharp_heads import sample_cosine as sample_cosine
from .stack_paths import StackPaths as StackPaths
from .token_path import TokenPath as TokenPath
from .transformer import Transformer as Transformer
from .transformer import Weights as Weights
