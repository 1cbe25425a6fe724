"""Small images for pages: written by `tutorials.py`, `gallery.py` and `pictures.py`."""

from __future__ import annotations

import io


def smallest_webp(png: bytes, width: int | None = None) -> bytes:
    """Pixels as WebP, the smaller of with and without loss.

    Args:
        png: the image.
        width: to which a wider image is scaled.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    if width is not None and image.width > width:
        size = (width, round(image.height * width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    tried = []
    for options in ({"quality": 82, "method": 6}, {"lossless": True, "quality": 100, "method": 6}):
        out = io.BytesIO()
        image.save(out, "webp", **options)
        tried.append(out.getvalue())
    return min(tried, key=len)
