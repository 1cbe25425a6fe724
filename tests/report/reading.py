"""A reader of the page: its elements, its text, and every address that it names."""

import re
from html.parser import HTMLParser
from pathlib import Path

#: Attributes by which an element can make a browser fetch something.
FETCHING = {
    *("src", "srcset", "href", "xlink:href", "data", "poster", "background", "action"),
    *("formaction", "ping", "manifest", "icon", "longdesc", "cite"),
}
STYLE_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s*)["']?([^"')\s;]*)""")


class Reader(HTMLParser):
    """Collects elements as (tag, attributes), text, and addresses."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.addresses: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        self.addresses += [v for name, v in attributes.items() if name in FETCHING]
        for name, value in attributes.items():
            if name not in FETCHING:
                self.addresses += STYLE_ADDRESS.findall(value)
        if tag not in ("meta", "link", "input", "img", "br"):
            self._inside.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_endtag(self, tag):
        assert self._inside, f"</{tag}> closes nothing"
        assert self._inside[-1] == tag, f"</{tag}> closes <{self._inside[-1]}>"
        self._inside.pop()

    def handle_data(self, data):
        if "style" in self._inside:
            self.addresses += STYLE_ADDRESS.findall(data)
            self.styles.append(data)
        elif "script" not in self._inside:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of one kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def read(path: Path) -> Reader:
    """Read a page from its file."""
    return Reader(path.read_text(encoding="utf-8"))


def outside(reader: Reader) -> list[str]:
    """The addresses that a browser would have to ask somebody else for."""
    return [a for a in reader.addresses if not a.startswith(("#", "data:"))]
