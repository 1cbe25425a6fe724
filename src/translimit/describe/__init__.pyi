from .shaped import ABLATIONS as ABLATIONS
from .shaped import CRITICAL_TOLERANCE as CRITICAL_TOLERANCE
from .shaped import Block as Block
from .shaped import ShapedGains as ShapedGains
from .shaped import ShapedMLP as ShapedMLP
