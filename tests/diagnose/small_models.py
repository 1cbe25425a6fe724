"""Small models of transformers, built from their configurations."""

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
WORDS = {"vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
IMAGES = {"image_size": 8, "patch_size": 4}
#: Class of the configuration and what it is given; six of them in every run, all in the slow one.
FAMILIES = {
    "bert": ("BertConfig", {**SIZES, **WORDS}),
    "albert": ("AlbertConfig", {**SIZES, **WORDS, "embedding_size": 8}),
    "llama": ("LlamaConfig", {**SIZES, **WORDS, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2Config", {**SIZES, **WORDS, "num_key_value_heads": 1, "head_dim": 8}),
    "gpt_neox": ("GPTNeoXConfig", {**SIZES, **WORDS}),
    "vit": ("ViTConfig", {**SIZES, **IMAGES}),
}
MORE = {
    "distilbert": (
        "DistilBertConfig",
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, **WORDS},
    ),
    "roberta": ("RobertaConfig", {**SIZES, **WORDS, "max_position_embeddings": 50}),
    "electra": ("ElectraConfig", {**SIZES, **WORDS, "embedding_size": 8}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 16,
            "word_embed_proj_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 24,
            **WORDS,
        },
    ),
    "phi": ("PhiConfig", {**SIZES, **WORDS}),
    "phi3": ("Phi3Config", {**SIZES, **WORDS}),
    "mistral": ("MistralConfig", {**SIZES, **WORDS, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2Config", {**SIZES, **WORDS, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3Config", {**SIZES, **WORDS, "num_key_value_heads": 1, "head_dim": 8}),
    "olmo2": ("Olmo2Config", {**SIZES, **WORDS}),
    "gemma": ("GemmaConfig", {**SIZES, **WORDS, "num_key_value_heads": 1, "head_dim": 8}),
    "granite": (
        "GraniteConfig",
        {
            **SIZES,
            **WORDS,
            "num_key_value_heads": 1,
            "residual_multiplier": 0.5,
            "embedding_multiplier": 3.0,
        },
    ),
    "deit": ("DeiTConfig", {**SIZES, **IMAGES}),
    "dinov2": (
        "Dinov2Config",
        {k: v for k, v in {**SIZES, **IMAGES}.items() if k != "intermediate_size"},
    ),
    "clip": ("CLIPVisionConfig", {**SIZES, **IMAGES}),
}


def module_of(name, **told):
    import torch
    import transformers

    kind, settings = {**FAMILIES, **MORE}[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**settings, **told)
    module = transformers.AutoModel.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # norms and biases must count
        for value in module.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return module.double().eval()
