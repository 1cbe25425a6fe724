from translimit.predict import predict

ids = [11, 5, 7, 5, 11, 9, 5, 3, 11, 2, 7, 5, 1, 5, 9, 11]  # a text that repeats its words
block = {
    "kind": "stack",
    "dim": 768,
    "layers": 12,
    "norm": "layer",
    "attention": {"heads": 12, "out_std": 0.02 / 24**0.5},
    "feed_forward": {"width": 3072, "out_std": 0.02 / 24**0.5},
}
for std in (0.02, 0.01):
    found = predict({**block, "embedding": {"std": 0.02, "position_std": std}}, ids=ids)
    overlap, gradient = found.curves["overlap"], found.curves["gradient"]
    told = ", ".join(f"{overlap.value[level]:.3f} at level {level}" for level in (0, 1, 12))
    print(f"position_std {std}: overlap {told}")
    print(f"   one standard error of a network at level 12: {overlap.error[12]:.3f}")
    print(f"   gradient at the embedding over that at the top: {gradient.value[0]:.1f}")
