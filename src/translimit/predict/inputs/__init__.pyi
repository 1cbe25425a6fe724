from .image import read_image as read_image
from .reading import default_tokens as default_tokens
from .reading import distinct_tokens as distinct_tokens
from .reading import read_tokens as read_tokens
from .tokens import Tokens as Tokens
