from . import dmft as dmft
from . import homogenized as homogenized
from . import meanfield as meanfield
from . import shaped as shaped
from . import signal as signal
