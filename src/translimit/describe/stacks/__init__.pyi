from .known import READERS as READERS
from .known import read_stack as read_stack
from .reading import StackReading as StackReading
