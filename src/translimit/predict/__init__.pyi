from .predict import predict as predict
from .prediction import Prediction as Prediction
from .records import Collapse as Collapse
from .records import OverlapCurve as OverlapCurve
from .records import Quantity as Quantity
from .records import StepSizes as StepSizes
from .records import Variant as Variant
