from .plan import Plan as Plan
from .plan import PlannedExperiment as PlannedExperiment
from .plan import plan_run as plan_run
from .run import Run as Run
from .run import run_experiments as run_experiments
