"""A name that is not at the top level is told with where it lives."""

import pytest

import translimit
from translimit.core.public_names import public_places


def test_the_error_says_where_a_name_lives():
    with pytest.raises(AttributeError, match=r"is translimit\.limits\.meanfield\.GaussianFlow$"):
        _ = translimit.GaussianFlow  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing_of_this_name'$"):
        _ = translimit.nothing_of_this_name  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"is translimit\.limits\.meanfield\.GaussianFlow$"):
        _ = translimit.limits.GaussianFlow  # pyright: ignore[reportAttributeAccessIssue]
    assert translimit.limits.meanfield.__name__ == "translimit.limits.meanfield"
    assert not hasattr(translimit.limits, "__nothing__")


def test_a_name_of_two_rooms_is_told_with_both():
    assert public_places("Softmax") == ["translimit.attention.Softmax"]
    assert all(place.endswith(".AbstractSolution") for place in public_places("AbstractSolution"))
    assert not hasattr(translimit, "__nothing__")
