import re

from translimit.core import TranslimitError
from translimit.predict import predict

sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
for config in (
    {"model_type": "albert", **sizes},
    {"model_type": "bart", **sizes},
    {"model_type": "mamba", **sizes},
    {"model_type": "llama9", **sizes},
    {"model_type": "llama", **sizes},
    {"model_type": "mixtral", "architectures": ["LlamaForCausalLM"], **sizes},
):
    try:
        predict(config)
    except TranslimitError as error:
        # The list of all families is abridged here.
        print("-", re.sub(r"known: .*; or", "known: gpt2, ...; or", str(error)))
