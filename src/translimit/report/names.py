"""Names of files and of places on the page."""

from __future__ import annotations

import re


def slug(*parts: str) -> str:
    """Letters, digits and hyphens from any names, in lower case."""
    joined = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts)
    return joined.lower()
