"""The hooks of the documentation: formulas become MathML, and code stays as it is."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from translimit import core

CHECKOUT = Path(__file__).parents[2]


def hook(name: str) -> ModuleType:
    """A hook, loaded as mkdocs does it: with its folder on the path."""
    path = CHECKOUT / "docs" / "hooks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hook_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mathematics() -> ModuleType:
    return hook("mathematics")


def rendered(mathematics: ModuleType, markdown: str) -> str:
    page = SimpleNamespace(meta={})
    return mathematics.on_page_content(mathematics.on_page_markdown(markdown, page=page), page=page)


def test_inline_and_displayed_formulas_become_mathml(mathematics: ModuleType) -> None:
    html = rendered(mathematics, "Here $x_1 * y_1$ and\n\n$$\\int f \\, d\\mu$$\n")
    assert html.count("<math") == 2
    assert 'display="inline"' in html
    assert 'display="block"' in html
    assert "$" not in html
    assert "FORMULA" not in html


@pytest.mark.parametrize(
    "text",
    [
        "`$x$` and ``a ` $y$``",
        "```sh\necho $HOME $PATH\n```",
        "~~~\n$x$\n~~~",
        "from $ 5 to $ 6",
        "a single $ sign",
    ],
)
def test_code_and_prices_stay_as_they_are(mathematics: ModuleType, text: str) -> None:
    assert rendered(mathematics, text) == text


def test_an_escaped_dollar_is_a_dollar(mathematics: ModuleType) -> None:
    assert rendered(mathematics, r"\$5 and \$6") == "$5 and $6"


def test_many_formulas_keep_their_order(mathematics: ModuleType) -> None:
    html = rendered(mathematics, " ".join(f"${i}$" for i in range(12)))
    positions = [html.index(f"<mn>{i}</mn>") for i in range(12)]
    assert positions == sorted(positions)


@pytest.mark.parametrize("latex", [r"\nosuchcommand{x}", r"\left( x", "x_", "{x"])
def test_a_formula_that_is_not_understood_stops_the_build(
    mathematics: ModuleType, latex: str
) -> None:
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match="the formula"):
        mathematics.extract(f"${latex}$")


def test_the_interface_page_of_a_room_lists_every_public_name() -> None:
    interface = hook("interface")
    text = interface.on_page_markdown("# core\n\n:::: translimit.core\n")
    listed = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    assert set(core.__all__) <= listed


def test_every_room_with_a_stub_has_a_page() -> None:
    source = CHECKOUT / "src" / "translimit"
    rooms = {path.parent.name for path in source.glob("*/__init__.pyi")}
    pages = {path.stem for path in (CHECKOUT / "docs" / "api").glob("*.md")}
    assert rooms - {"cli"} <= pages


def test_the_site_is_configured_to_ask_nothing_of_the_network() -> None:
    text = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert "://" not in text
