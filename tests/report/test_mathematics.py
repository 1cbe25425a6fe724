"""Prose with formulas becomes safe HTML: MathML for the formulas, escapes for the rest."""

import ast
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit import experiments
from translimit.core import ArgumentError
from translimit.report.mathematics import plain, require_readable, typeset
from translimit.report.mathml import THIN, _serialise
from translimit.report.typesetting import FAMILY, FONT, resource


def elements(markup: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<p>{markup}</p>").iter())[1:]


def test_formula_is_mathml_between_escaped_text():
    markup = typeset(r"a < b & $n^{-1/2}$ as $n \to \infty$")
    assert markup.startswith("a &lt; b &amp; <math")
    texts = [(e.tag, e.text) for e in elements(markup) if e.text]
    assert ("mo", "\N{MINUS SIGN}") in texts
    assert ("mo", "→") in texts
    assert ("mi", "∞") in texts


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("[-1, 1]", True),
        (r"\langle -x \rangle", True),
        ("a = -b", True),
        ("-a", True),
        ("a - b", False),
        ("|a| - b", False),
    ],
)
def test_minus_is_a_sign_or_an_operator(source, prefix):
    (minus,) = (e for e in elements(typeset(f"${source}$")) if e.text == "\N{MINUS SIGN}")
    assert (minus.get("form") == "prefix") == prefix


@pytest.mark.parametrize(
    ("source", "spaces"),
    [
        (r"\log n", 1),
        (r"2 \log n", 2),
        (r"\log^2 n", 1),
        (r"\log\det V", 2),
        (r"\log(n)", 0),
        (r"\log | x |", 0),
        (r"\log \left( n \right)", 0),
        (r"a + \log \, n", 1),
        (r"-\max_i x_i", 1),
        (r"\operatorname{rank}(Q)", 0),
        (r"d - \mathrm{rank} Q", 1),
        (r"(a) \sup_t b", 2),
        (r"n_\mathrm{out} x", 0),
        (r"a b", 0),
    ],
)
def test_names_of_functions_are_parted_by_thin_spaces_as_in_tex(source, spaces):
    assert typeset(f"${source}$").count(THIN) == spaces


def test_numbers_with_an_exponent_are_powers_of_ten():
    assert typeset("$t = 1e+06$") == typeset("$t = 10^{6}$")
    assert typeset("$t = 2.5e-07$") == typeset(r"$t = 2.5 \times 10^{-7}$")
    assert typeset("$2e^{-3}$") != typeset("$10^{-3}$")


def test_dollar_signs():
    assert typeset(r"costs \$5") == "costs $5"
    assert typeset("costs $5") == "costs $5"
    assert plain(r"costs \$5, gives $x^2$") == "costs $5, gives x^2"


@pytest.mark.parametrize(
    "source",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;img src=x onerror=alert(1)&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(http://example.org/x)}{x}",
        r"\class{notice}{x}",
    ],
)
def test_formula_cannot_leave_mathematics(source):
    for element in elements(typeset(f"${source}$")):
        assert element.tag.startswith("m")
        assert not {"href", "style", "class", "onerror", "src"} & set(element.attrib)


@pytest.mark.parametrize("source", [r"\frac{", r"\nosuchcommand{x}", r"\left( x"])
def test_unreadable_formula_is_told_and_shown_as_its_source(as_user, source):
    with pytest.raises(ArgumentError, match=r"formula: (cannot read|unknown command)"):
        require_readable(f"see ${source}$")
    (code,) = ElementTree.fromstring(f"<p>{typeset(f'see ${source}$ and $x$')}</p>").iter("code")
    assert code.text == f"${source}$"
    assert set(code.attrib) == {"title"}
    assert "<math" in typeset(f"see ${source}$ and $x$")


def test_an_unreadable_formula_is_escaped():
    markup = typeset('$\\nosuch <img src=x onerror=alert(1)> \x1b[31m " &amp;$')
    (code,) = ElementTree.fromstring(f"<p>{markup}</p>")
    assert (code.tag, list(code)) == ("code", [])
    assert code.text == '$\\nosuch <img src=x onerror=alert(1)> \\x1b[31m " &amp;$'


def test_an_element_of_no_mathematics_is_refused(as_user):
    with pytest.raises(ArgumentError, match=r"formula: \$x\$ gives <script>; use plain LaTeX"):
        _serialise(ElementTree.Element("script"), "x")


@given(st.text(alphabet=st.characters(exclude_characters="$\\", exclude_categories=("Cs", "Cc"))))
def test_text_without_formulas_reads_back(text):
    assert ElementTree.fromstring(f"<p>{typeset(text)}</p>").text in (text, None if not text else 0)


def prose_of_experiments() -> list[tuple[str, str]]:
    """Every string of the experiments' sources with a formula; what is filled in becomes 1."""
    found = []
    for path in sorted(Path(experiments.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
            if part is not node
        }
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            text = ""
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "1" for p in node.values]
                text = "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            if text.count("$") % 2 == 0 and "$" in text:
                found.append((path.name, text))
    return found


def test_every_formula_of_the_experiments_can_be_read():
    """Of all presets, also those that no test computes."""
    prose = prose_of_experiments()
    assert len(prose) > 300
    unreadable = []
    for name, text in prose:
        try:
            require_readable(text)
        except ArgumentError as error:
            unreadable.append((name, text, str(error)))
    assert unreadable == []


def test_the_font_has_what_every_formula_holds():
    """Also in the slanted form that a browser gives to a letter that stands alone."""
    from fontTools.ttLib import TTFont

    font = TTFont(BytesIO(resource(FONT)))
    assert "MATH" in font
    assert font["name"].getDebugName(1) == FAMILY  # a changed font has another name than its source
    held = font.getBestCmap()
    missing = set()
    for _, text in prose_of_experiments():
        for element in elements(typeset(text)):
            if element.tag in ("mi", "mo", "mn", "mtext"):
                word = element.text or ""
                missing |= {
                    c for c in word + slanted(word) if ord(c) not in held and not c.isspace()
                }
    assert missing == set()


def slanted(word: str) -> str:
    """A letter that stands alone, as browsers set it."""
    if len(word) != 1:
        return ""
    for first, last, start in (("A", "Z", 0x1D434), ("a", "z", 0x1D44E), ("α", "ω", 0x1D6FC)):
        if first <= word <= last:
            return "ℎ" if word == "h" else chr(start + ord(word) - ord(first))
    return ""
