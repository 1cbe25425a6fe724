"""What a person reads of skipped layers and of tuned checkpoints."""

from translimit.diagnose import changes
from translimit.diagnose.skipping import Skipped


def test_a_loss_that_falls_is_told_as_lower():
    assert str(Skipped(3, None, 0.17, 0.002, -0.38, 0.01)).endswith("0.38 ± 0.01 nats lower")
    assert str(Skipped(1, 2, float("nan"), 0.0, 0.83, 0.37)) == (
        "layer 1, head 2: loss without it 0.83 ± 0.37 nats higher"
    )


def test_nothing_that_moved_has_no_z(byte_model, windows):
    told = str(changes(byte_model, byte_model, windows[:2, :12]))
    assert "+0.000 (-)" in told
    assert "nan" not in told
