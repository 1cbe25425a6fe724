from . import meanfield as meanfield
