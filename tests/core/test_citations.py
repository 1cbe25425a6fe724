"""The bibliography: entries that BibTeX can read."""

import re

import pytest

from translimit.core import BIBLIOGRAPHY, ConfigError, bibtex


@pytest.mark.parametrize("key", sorted(BIBLIOGRAPHY))
def test_every_entry_is_well_formed(key: str) -> None:
    entry = BIBLIOGRAPHY[key]
    assert re.match(r"@\w+\{[\w:-]+,\n", entry)
    assert entry.endswith("\n}")
    depth = 0
    for character in entry[:-1]:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth > 0 or character == "@" or "{" not in entry[: entry.index(character) + 1]
    assert depth == 1
    for field in ("title", "author", "year"):
        assert re.search(rf"^  {field} = \{{", entry, flags=re.MULTILINE)


def test_entries_have_distinct_labels() -> None:
    labels = [re.findall(r"@\w+\{([^,]+),", entry)[0] for entry in BIBLIOGRAPHY.values()]
    assert len(set(labels)) == len(labels)


def test_each_entry_is_given_once_in_alphabetical_order() -> None:
    text = bibtex(["jax", "castin2025", "jax"])
    assert text == BIBLIOGRAPHY["castin2025"] + "\n\n" + BIBLIOGRAPHY["jax"]
    assert bibtex([]) == ""


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'castin2026'; did you mean 'castin2025'\?"):
        bibtex(["castin2026"])
