"""The page of the package: the README, whose links lead nowhere outside of the checkout.

A page of a package index has no files beside it and no anchors at headings. Where `pyproject.toml`
declares `Source` under `[project.urls]`, links and pictures lead there; without an address a link
becomes its text, and pictures go with their captions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r'<picture>.*?<img src="([^"]+)" alt="([^"]*)">\s*</picture>', re.DOTALL)
_IMAGE = re.compile(r"!\[([^]]*)\]\(([^)\s]+)\)")
#: An image of its own paragraph, with the caption in italics that follows.
_CAPTIONED = re.compile(
    r"^!\[[^]]*\]\([^)\s]+\)\n\n(?:\*(?!\*).*?\*\n\n)?", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!\w+:)([^)\s]+)\)")


def package_page(readme: str, source: str = "") -> str:
    """The README without links that need its checkout.

    Args:
        readme: its Markdown.
        source: address of the repository; none by default.
    """
    parts, last = [], 0
    for fence in _FENCED.finditer(readme):
        parts += [_outside(readme[last : fence.start()], source.rstrip("/")), fence[0]]
        last = fence.end()
    return "".join([*parts, _outside(readme[last:], source.rstrip("/"))])


def _outside(text: str, source: str) -> str:
    """Text between blocks of code."""
    text = _PICTURE.sub(r"![\2](\1)", text)
    if not source:
        return _LINK.sub(r"\1", _CAPTIONED.sub("", text))
    text = _IMAGE.sub(rf"![\1]({source}/raw/HEAD/\2)", text)
    return _LINK.sub(
        lambda link: f"[{link[1]}]({source}{'' if link[2][0] == '#' else '/blob/HEAD/'}{link[2]})",
        text,
    )


class PackagePage(MetadataHookInterface):
    """Hatchling asks it for the README of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the page into the metadata."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = package_page(readme, metadata.get("urls", {}).get("Source", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
