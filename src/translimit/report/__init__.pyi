from .build import build_report as build_report
from .gallery import build_gallery as build_gallery
from .numbers import format_duration as format_duration
from .numbers import format_estimate as format_estimate
from .numbers import format_number as format_number
