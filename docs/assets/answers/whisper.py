import numpy as np

from translimit.predict import predict

width, frames = 384, 48
turns = np.arange(frames)[:, None] * 1e4 ** (-np.arange(width // 2) / (width // 2 - 1))
positions = np.concatenate([np.sin(turns), np.cos(turns)], axis=1)
centred = positions - positions.mean(axis=1, keepdims=True)  # as its layer norms see them
tiny = {"model_type": "whisper", "d_model": width, "encoder_layers": 4}
tiny |= {"encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
found = predict(tiny, gram=centred @ centred.T / width)
overlap, rank = found.curves["overlap"], found.curves["effective_rank"]
print(f"overlap {overlap.value[0]:.3f} to {overlap.value[-1]:.3f} ± {overlap.error[-1]:.3f}")
print(f"effective rank {rank.value[0]:.1f} to {rank.value[-1]:.1f} of {frames}")
print(
    f"rms of the stream {found.curves['rms'].value[0]:.3f} to {found.curves['rms'].value[-1]:.3f}"
)
for label in found.labels:
    print(label.name if label.holds else f"no {label.name}", "-", label.says)
