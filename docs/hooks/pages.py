"""Pages and tables that are written from the package, so that they cannot fall behind it.

- `bibliography.md`: every work that an experiment or a page cites, from `core.citations`.
- `changelog.md`: the changelog of the checkout.
- `:::: experiments PAPER` on a page becomes the table of a paper's experiments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*?)\},?$", re.DOTALL | re.MULTILINE)
#: BibTeX's accents that occur, as letters.
_ACCENTS = {"{\\'e}": "é", "{\\`e}": "è", "{\\'E}": "É", '{\\"o}': "ö", "{\\`a}": "à"}


def bibliography() -> str:
    """The page of all works, in the order of their keys."""
    entries = _bibliography()
    lines = ["# Bibliography", "", "The works behind the experiments and these pages.", ""]
    for key in sorted(entries):
        fields = {name: _text(value) for name, value in _FIELD.findall(entries[key])}
        authors = fields["author"].replace(" and ", "; ")
        where = fields.get("booktitle") or fields.get("school") or fields.get("publisher", "")
        parts = [f"{authors}: *{fields['title']}*", where, fields["year"]]
        line = ", ".join(filter(None, parts)) + "."
        if "eprint" in fields:
            line += f" [arXiv {fields['eprint']}](https://arxiv.org/abs/{fields['eprint']})"
        if "doi" in fields:
            line += f" [doi {fields['doi']}](https://doi.org/{fields['doi']})"
        lines += [f'- <span id="{key}"></span>**{key}** {line}']
    lines += [
        "",
        "## BibTeX",
        "",
        "`translimit cite RUN` prints what a run rests on.",
        "",
        "```bibtex",
    ]
    return "\n".join([*lines, *(entries[key] for key in sorted(entries)), "```", ""])


def experiments_of(paper: str) -> str:
    """The table of a paper's experiments: what each compares, its claims, its cost."""
    found = [one for name, one in _experiments().items() if name.startswith(f"{paper}/")]
    rows = [
        "| experiment | what it holds | claims at standard | cost at standard |",
        "|---|---|---|---|",
    ]
    for one in found:
        standard = one.presets["standard"]
        minutes = one.cost(standard).seconds / 60
        cost = "under a minute" if minutes < 1 else f"about {minutes:.0f} min on one core"
        title = one.title.replace("|", "\\|")
        rows.append(f"| `{one.name}` | {title} | {len(one.claim_names(standard))} | {cost} |")
    return "\n".join(rows)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made (an event of MkDocs)."""
    from mkdocs.structure.files import File

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "bibliography.md", content=bibliography()))
    files.append(File.generated(config, "changelog.md", content=changelog))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the tables of a page (an event of MkDocs)."""
    pattern = re.compile(r"^:::: experiments (\w+)$", re.MULTILINE)
    return pattern.sub(lambda match: experiments_of(match[1]), markdown)


def _text(value: str) -> str:
    for accent, letter in _ACCENTS.items():
        value = value.replace(accent, letter)
    return " ".join(re.sub(r"[{}]", "", value).split())


def _package() -> None:
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


def _bibliography() -> dict[str, str]:
    _package()
    from translimit.core.citations import BIBLIOGRAPHY

    return BIBLIOGRAPHY


def _experiments() -> dict[str, Any]:
    _package()
    from translimit.experiments import all_experiments

    return all_experiments()
