from .family import Family as Family
from .known import FAMILIES as FAMILIES
from .known import family_called as family_called
from .known import family_of_class as family_of_class
from .reader import read_stack as read_stack
from .reading import StackReading as StackReading
from .refused import NOT_DESCRIBED as NOT_DESCRIBED
from .refused import WITHOUT_LIMIT as WITHOUT_LIMIT
