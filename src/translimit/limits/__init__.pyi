from . import homogenized as homogenized
from . import meanfield as meanfield
