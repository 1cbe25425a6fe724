"""Every architecture that transformers registers is read as one of its own, or refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.describe import registered
from tests.describe.small_classes import small_config
from tests.describe.test_class_networks import APART

from translimit.describe import FAMILIES, family_called, read_stack


@pytest.mark.slow
@pytest.mark.parametrize("what", registered.REGISTERS)
def test_what_is_registered_is_read_as_itself_or_refused(what: str) -> None:
    for one in registered.rows(what):
        if not one.family:
            continue
        own = family_called(one.name)
        if own is None:  # one of several towers, named by its own configuration
            values = small_config(one.name).to_dict()
            tower = "vision" if "vision_config" in values and "image" in what else "text"
            inner = values[f"{tower}_config"]
            assert family_called(inner["model_type"]) is FAMILIES[one.family], one
            assert read_stack(inner).stack == read_stack(values, tower=tower).stack, one
        else:
            assert own.name == one.family, one
        # It is held against its class by one of the two tests.
        compared = one.check == registered.EXACT or one.family not in APART
        assert compared, one


def test_the_page_is_what_becomes_of_them() -> None:
    assert registered.PAGE.read_text(encoding="utf-8") == registered.page()
