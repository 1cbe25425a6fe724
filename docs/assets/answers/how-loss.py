from translimit.predict import predict

config = {"model_type": "gpt2", "n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 5000}
loss = predict(config, tokens=32).loss
print(f"{loss.value:.2f} ± {loss.error:.2f} nats")
