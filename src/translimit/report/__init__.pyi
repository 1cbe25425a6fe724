from .build import build_report as build_report
from .numbers import format_duration as format_duration
from .numbers import format_estimate as format_estimate
from .numbers import format_number as format_number
