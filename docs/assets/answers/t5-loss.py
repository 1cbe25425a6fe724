from dataclasses import replace

from translimit.describe import read_stack
from translimit.predict import predict

sizes = {"d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 2048, "vocab_size": 32128}
for tied in (True, False):
    encoder = read_stack({"model_type": "t5", "tie_word_embeddings": tied, **sizes})
    # The decoder without its attention to the encoder, which is not read.
    decoder = replace(encoder.stack, causal=True)
    found = predict(replace(encoder, stack=decoder, own_token=tied), tokens=16)
    print(f"tie_word_embeddings {tied}: logits times {encoder.logit_scale:.3g}")
    print("   " + "\n   ".join(found.loss.says))
