"""The bibliography: entries that BibTeX can read."""

import re

import pytest

from translimit.core import BIBLIOGRAPHY, ConfigError, bibtex, reference


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


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("koubbi2026", "Koubbi et al., arXiv 2604.01978"),
        ("castin2025", "Castin et al., arXiv 2501.18322"),
        ("noci2023", "Noci et al., arXiv 2306.17759"),
        ("geshkovski2023", "Geshkovski et al., arXiv 2312.10794"),
        ("geshkovski2024", "Geshkovski et al., arXiv 2410.06833"),
        ("bordelon2024", "Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712"),
    ],
)
def test_the_short_form_of_a_paper(key, text):
    assert reference(key) == text


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(("key", "named"), [("koubi2026", "koubbi2026"), ("digits", "no arXiv")])
def test_a_work_without_a_short_form_is_refused(key, named):
    with pytest.raises(ConfigError, match=named):
        reference(key)
