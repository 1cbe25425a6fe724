from translimit.predict import predict

llama = {"model_type": "llama", "hidden_size": 512, "num_attention_heads": 8}
llama |= {"intermediate_size": 1376, "vocab_size": 32000}
for layers in (8, 32):
    loss = predict({**llama, "num_hidden_layers": layers}, tokens=16).loss
    weights, stream = loss.gradient_norm, loss.curves["gradient"].value
    print(f"pre-LN, {layers} layers: gradient norm {weights:.1f}, of a token's stream", end=" ")
    print(
        f"{stream[0]:.3g} at the embedding, {stream[1]:.3g} after layer 1, {stream[-1]:.3g} on top"
    )

unit = 512**-0.5
post = {
    "kind": "stack",
    "dim": 512,
    "norm": "rms",
    "placement": "post",
    "init_std": unit,
    "attention": {"heads": 8, "out_std": 0.1**0.5 * unit},
    "feed_forward": {"width": 1024, "activation": "silu", "gated": True, "out_std": 1024**-0.5},
    "embedding": {"std": 1.0},
}
for layers in (8, 32):
    found = predict({**post, "layers": layers}, tokens=16)
    gradient = found.curves["gradient"].value
    print(f"post-LN, {layers} layers: gradient after layer 1 over the top {gradient[1]:.3g}")
print("   " + "\n   ".join(found.depth))
