from .family import Family as Family
from .known import FAMILIES as FAMILIES
from .known import family_of_class as family_of_class
