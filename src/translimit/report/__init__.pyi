from .build import build_report as build_report
from .gallery import build_gallery as build_gallery
