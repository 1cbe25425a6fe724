from translimit.describe import read_stack
from translimit.predict import predict

text = {"model_type": "clip_text_model", "hidden_size": 512, "num_attention_heads": 8}
vision = {"model_type": "clip_vision_model", "hidden_size": 768, "num_attention_heads": 12}
vision |= {"num_hidden_layers": 12, "patch_size": 32, "image_size": 224}
text |= {"num_hidden_layers": 12, "vocab_size": 49408}
clip = {"model_type": "clip", "text_config": text, "vision_config": vision}
for tower in ("text", "vision"):
    found = predict(read_stack(clip, tower=tower))
    overlap = found.curves["overlap"]
    print(f"{found.reading.family}: {found.source}")
    print(f"   overlap {overlap.value[0]:.3f} to {overlap.value[-1]:.3f} ± {overlap.error[-1]:.3f}")
    for label in found.labels:
        print("  ", label.name if label.holds else f"no {label.name}", "-", label.says)
