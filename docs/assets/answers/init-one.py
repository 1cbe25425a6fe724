from translimit.predict import predict

gpt2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257}
for std in (0.02, 1.0):
    found = predict({**gpt2, "initializer_range": std}, tokens=16)
    print(f"initializer_range {std}: loss {found.loss.value:.1f}")
    for label in found.labels:
        print("  ", label.name if label.holds else f"no {label.name}", "-", label.says)
