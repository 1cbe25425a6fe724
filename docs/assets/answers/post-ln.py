from translimit.predict import predict

width = 512
square, wide = width**-0.5, (2 / (5 * width)) ** 0.5  # Xavier's rule for D x D and for 4 D x D
attention = {"heads": 8, "query_std": square, "key_std": square, "value_std": square}
block = {
    "kind": "stack",
    "dim": width,
    "causal": False,
    "norm": "layer",
    "attention": {**attention, "out_std": square},
    "feed_forward": {"width": 4 * width, "activation": "relu", "in_std": wide, "out_std": wide},
    "embedding": {"std": 1.0},
}
for placement in ("post", "pre"):
    for layers in (6, 12):
        found = predict({**block, "placement": placement, "layers": layers}, ids=list(range(32)))
        overlap, gradient = (found.curves[name].value for name in ("overlap", "gradient"))
        query = found.curves["gradient_query"].value
        print(
            f"{placement}-LN, {layers} layers: overlap {overlap[-1]:.3f} at the top; gradient of "
            f"the stream {gradient[1]:.2f}, of queries {query[0] / query[-1]:.3g}, in layer 1 over "
            "that at the top"
        )
        print("  ", "; ".join(label.name for label in found.labels if label.holds) or "no label")
    print("   " + "\n   ".join(found.depth))
