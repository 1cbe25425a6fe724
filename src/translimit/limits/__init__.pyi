from . import meanfield as meanfield
from . import shaped as shaped
