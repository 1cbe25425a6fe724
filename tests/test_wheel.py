"""A built wheel holds everything, and runs without the checkout."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
SOURCE = CHECKOUT / "src" / "translimit"
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    environment = dict(os.environ) | ({"PYTHONPATH": str(path)} if path else {})
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    run(*build, str(CHECKOUT), cwd=folder)
    (found,) = folder.glob("translimit-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed, without its dependencies."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    run(*pip, "--disable-pip-version-check", "--target", target, wheel, cwd=target)
    return target


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    wanted = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert "translimit/py.typed" in held
    assert any(name.endswith(".pyi") for name in held)
    assert any(name.startswith("translimit/data/files/") for name in held)
    assert any(name.startswith("translimit/examples/") for name in held)
    assert any(name.startswith("translimit/report/templates/") for name in held)


def test_the_wheel_names_its_version_licence_and_command(installed: Path) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    import translimit

    assert distribution.version == translimit.__version__
    assert distribution.metadata["License-Expression"] == "MIT"
    (command,) = distribution.entry_points.select(group="console_scripts")
    assert (command.name, command.value) == ("translimit", "translimit.cli:main")
    assert any(str(path).endswith("licenses/LICENSE") for path in distribution.files or ())


def test_no_link_of_the_package_page_needs_the_checkout(installed: Path) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    page = str(distribution.metadata.get_payload())
    headings = re.findall(r"^## .*$", page, re.MULTILINE)
    assert headings == re.findall(r"^## .*$", README, re.MULTILINE)
    assert targets(page) == []  # no address is declared that they could lead to
    assert page.count("```") == README.count("```")


def test_links_of_the_package_page_lead_to_a_declared_address() -> None:
    path = CHECKOUT / "hatch_build.py"
    spec = importlib.util.spec_from_file_location("hatch_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.package_page(README, "https://example.org/it/")
    assert len(targets(page)) > 40
    assert all(one.startswith("https://example.org/it") for one in targets(page))
    assert "(https://example.org/it/raw/HEAD/docs/assets/cloud.webp)" in page
    assert "(https://example.org/it/blob/HEAD/docs/predict.md#questions-that-people-asked)" in page
    assert "(https://example.org/it#i-train-transformers)" in page


def targets(page: str) -> list[str]:
    """Where links and images of Markdown and of HTML lead."""
    return re.findall(r"""(?:\]\(|(?:href|src|srcset)=")([^)"\s]+)""", page)


def test_the_installed_wheel_imports_from_where_it_was_installed(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import importlib.resources, translimit, translimit.cli;"
        "print(translimit.__file__);"
        "print(importlib.resources.files('translimit').joinpath('py.typed').is_file())"
    )
    where, typed = run(sys.executable, "-c", code, cwd=tmp_path, path=installed).splitlines()
    assert Path(where).is_relative_to(installed)
    assert typed == "True"


def test_the_installed_wheel_writes_the_examples_that_the_readme_names(
    installed: Path, tmp_path: Path
) -> None:
    def translimit(*words: str) -> str:
        return run(sys.executable, "-m", "translimit", *words, cwd=tmp_path, path=installed)

    names = [line.split()[0] for line in translimit("example").splitlines()]
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    calls = re.findall(r"^translimit example ([^#\n]*)", readme, re.MULTILINE)
    assert calls
    for call in calls:
        assert set(call.split()) <= set(names)
    translimit("example", *names)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    sizes = ("--base", "gpt2.json", "--target", "gpt2.json", "--optimizer", "adamw")
    assert "learning rate" in translimit("scale", *sizes)


@pytest.mark.slow
def test_the_installed_wheel_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    """The whole demo, with the wheel's own data files, from a folder that is no checkout."""
    names = ("particles-and-closure", "digits", "rank-histograms")
    demo = [*(f"castin2025/{name}" for name in names), "--preset", "demo"]
    command = [sys.executable, "-m", "translimit", "run", *demo]
    said = run(*command, cwd=tmp_path, path=installed)
    report = tmp_path / said.splitlines()[-1].removeprefix("report: ")
    assert report.is_file()
    claims = (report.parent / "claims.json").read_text(encoding="utf-8")
    assert claims.count('"supported"') >= 15
