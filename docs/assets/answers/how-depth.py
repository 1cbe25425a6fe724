from translimit.predict import predict

model = {"model_type": "gpt2", "n_embd": 256, "n_head": 4, "initializer_range": 256**-0.5}
for layers in (6, 12, 24):
    print(f"{layers} layers:", predict({**model, "n_layer": layers}, tokens=32).collapse)
