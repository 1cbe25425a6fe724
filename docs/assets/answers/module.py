import torch
from transformers import GPT2Config, GPT2LMHeadModel

from translimit.core import TranslimitError
from translimit.predict import predict

torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(n_embd=256, n_layer=4, n_head=4, vocab_size=2000))
with torch.no_grad():  # an initialisation of one's own
    for layer in model.transformer.h:
        layer.mlp.c_proj.weight.normal_(std=0.1)
found = predict(model, tokens=16)
print(*found.reading.assumptions, sep="\n")
print(found.loss.says[0])

with torch.no_grad():  # what a trained matrix has: a direction of its own
    u, v = torch.randn(256), torch.randn(256)
    model.transformer.h[2].attn.c_proj.weight += 0.3 * torch.outer(u / u.norm(), v / v.norm())
try:
    predict(model)
except TranslimitError as error:
    print(error)
