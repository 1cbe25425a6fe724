from .compressed_shaped_transformer import (
    CompressedShapedTransformer as CompressedShapedTransformer,
)
from .residual_attention import ResidualAttention as ResidualAttention
from .shaped_transformer import ShapedTransformer as ShapedTransformer
