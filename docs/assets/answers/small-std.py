from translimit.predict import predict

llama = {"model_type": "llama", "hidden_size": 2048, "num_attention_heads": 16}
llama |= {"num_hidden_layers": 16, "intermediate_size": 5504, "vocab_size": 32000}
for std in (0.02, 0.006):
    found = predict({**llama, "initializer_range": std}, tokens=16)
    top = found.curves["gradient"].value
    first = found.curves["attention_share"].value[0] + found.curves["units_share"].value[0]
    print(f"initializer_range {std}:")
    print(f"   rms of the tokens that enter {found.curves['rms'].value[0]:.3g}")
    print(f"   the first layer adds {first:.0%} of what leaves it")
    print(f"   gradient over that at the top: embedding {top[0]:.3g}, layer 1 {top[1]:.3g}")
    print(f"   score_std {found.quantities[0].value[0]:.3g}, loss {found.loss.value:.2f}")
