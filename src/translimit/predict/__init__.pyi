from .predict import predict as predict
from .prediction import Collapse as Collapse
from .prediction import OverlapCurve as OverlapCurve
from .prediction import Prediction as Prediction
from .prediction import Quantity as Quantity
from .prediction import StepSizes as StepSizes
from .prediction import Variant as Variant
