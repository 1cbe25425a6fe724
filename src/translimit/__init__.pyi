from . import attention as attention
from . import checks as checks
from . import core as core
from . import data as data
from . import describe as describe
from . import diagnose as diagnose
from . import execute as execute
from . import experiments as experiments
from . import explore as explore
from . import extrapolate as extrapolate
from . import figures as figures
from . import integrate as integrate
from . import limits as limits
from . import models as models
from . import observe as observe
from . import predict as predict
from . import report as report
from . import scaling as scaling
from . import store as store
from . import study as study
from . import train as train
from .core import Estimate as Estimate
from .core import Outcome as Outcome
from .core import TranslimitError as TranslimitError
from .core import keep_programs as keep_programs
from .core import solve as solve

__version__: str
