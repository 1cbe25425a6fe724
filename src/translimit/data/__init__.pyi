from .digits import Digits as Digits
from .digits import load_digits as load_digits
from .patches import image_patches as image_patches
from .patches import standardise as standardise
from .text import SENTENCE as SENTENCE
from .text import embed_bytes as embed_bytes
