from translimit.predict import predict

block = {
    "kind": "stack",
    "dim": 1024,
    "layers": 8,
    "norm": "rms",
    "feed_forward": {"width": 3072, "activation": "silu", "gated": True},
    "embedding": {"std": 0.02},
}
for scale in (128**-0.5, 1.0):
    attention = {"heads": 8, "head_dim": 128, "qk_norm": {}, "scores": {"score_scale": scale}}
    found = predict({**block, "attention": attention}, ids=list(range(32)))
    score, entropy = found.quantities[0], found.curves["entropy"]
    label = next(one for one in found.labels if one.name == "entropy collapse")
    print(f"scale {scale:.3f}: {score.name} {score.value[0]:.3g}, {label.says}")
    print("   entropy over its largest:", *(f"{value:.2f}" for value in entropy.value))
    print("  ", label.name if label.holds else f"no {label.name}")
