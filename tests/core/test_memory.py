"""Refusals before an allocation: by which argument, and that small ones look at nothing."""

import pytest

from translimit.core import MemoryLimitError, fits, memory, require_free, require_kept


@pytest.fixture
def free(monkeypatch):
    """Let a process have so many bytes."""

    def allow(amount: float) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: amount)

    return allow


def test_what_is_small_always_fits(free):
    free(0.0)
    assert fits(memory.SMALL - 1)
    assert not fits(memory.SMALL)
    require_free(1e3, "paths", "paths", "take fewer")


def test_the_message_names_argument_need_what_is_free_and_remedy(free):
    free(1.5e9)
    require_free(1.5e9, "paths", "paths", "take fewer")
    with pytest.raises(MemoryLimitError) as refusal:
        require_free(2e9, "paths", "1000 paths", "take fewer")
    said = "paths: 1000 paths need about 2.00 GB, and 1.50 GB are free; take fewer"
    assert str(refusal.value) == said


@pytest.mark.parametrize(("each", "argument"), [(1e8, "save_every"), (1e9, "seeds")])
def test_depths_are_too_many_or_samples_are(free, each, argument):
    free(1.5e9)
    with pytest.raises(MemoryLimitError, match=f"^{argument}: states at 100 depths need about"):
        require_kept(each, 100, "seeds", "states")
    require_kept(1e7, 100, "seeds", "states")
