from .shaped import ABLATIONS as ABLATIONS
from .shaped import Block as Block
from .shaped import ShapedGains as ShapedGains
from .shaped import ShapedMLP as ShapedMLP
