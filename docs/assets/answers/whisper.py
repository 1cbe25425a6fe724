import numpy as np

from translimit.predict import predict

width, frames = 384, 48
turns = np.arange(frames)[:, None] * 1e4 ** (-np.arange(width // 2) / (width // 2 - 1))
positions = np.concatenate(
    [np.sin(turns), np.cos(turns)], axis=1
)  # fixed, added to the stem's frames
centred = positions - positions.mean(axis=1, keepdims=True)  # as its layer norms see them
encoder = {
    "kind": "stack",
    "dim": width,
    "layers": 4,
    "causal": False,
    "norm": "layer",
    "attention": {"heads": 6},
    "feed_forward": {"width": 1536},
}
found = predict(encoder, gram=centred @ centred.T / width)
overlap, rank = found.curves["overlap"], found.curves["effective_rank"]
print(f"overlap {overlap.value[0]:.3f} to {overlap.value[-1]:.3f} ± {overlap.error[-1]:.3f}")
print(f"effective rank {rank.value[0]:.1f} to {rank.value[-1]:.1f} of {frames}")
print(
    f"rms of the stream {found.curves['rms'].value[0]:.3f} to {found.curves['rms'].value[-1]:.3f}"
)
for label in found.labels:
    print(label.name if label.holds else f"no {label.name}", "-", label.says)
