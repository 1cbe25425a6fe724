"""Architectures that are known and not read, each with its reason.

Those without a limit here mix tokens by something that is no softmax, or have weights that are not
independent; the others have a block for which no term is derived.
"""

from __future__ import annotations

_NOT_DESCRIBED: dict[str, tuple[str, ...]] = {
    "multiplies what attention returns by a gate": (
        *("afmoe", "beam", "dory", "laguna", "neomme"),
    ),
    "normalises inside its branches, before their last matrix": ("bitnet",),
    "normalises values": (
        *("gemma4", "gemma4_text", "gemma4_assistant"),
        *("gemma4_unified", "gemma4_unified_text", "gemma4_unified_assistant"),
    ),
    "chooses its experts by drawing them in training, with a gradient of its own": ("phimoe",),
    "scales what its experts read": ("llama4", "llama4_text"),
    "has experts among its heads": ("jetmoe",),
    "has experts that return their input, and a way around its attention": ("longcat_flash",),
    "chooses the keys of a query by a network of its own": (
        *("axk2", "dots3_note", "dots3_note_text", "minimax_m3_vl_text"),
    ),
    "has several streams, and compresses keys": ("deepseek_v4", "hy_v4"),
    "has masks that values make": ("doge",),
    "has scores of relative positions that queries and keys make": (
        *("deberta", "deberta-v2", "xlnet"),
    ),
    "has biases of segments": ("cpmant",),
    "takes differences of attention": ("diffllama",),
    "has an embedding in every layer": ("gemma3n", "gemma3n_text"),
    "has layers that attend to an image": ("mllama",),
    "has adapters in every layer": ("xmod",),
    "adds embeddings of other things than words and positions": (
        *("layoutlm", "tapas", "luke", "roc_bert"),
    ),
    "narrows its stream inside every block": ("mobilebert",),
    "has matrices in groups": ("squeezebert",),
    "rounds its matrices and what passes them": ("ibert",),
    "has queries of their own for global tokens": ("longformer",),
    "reads an image before its text": ("git",),
    "does not tell its text apart from its images and sounds": ("phi4_multimodal",),
    "stretches its table of positions to the shape of every image": ("siglip2_vision_model",),
    "reads codes of sound from several tables": ("musicgen", "musicgen_melody", "moshi"),
}
_WITHOUT_LIMIT: dict[str, tuple[str, ...]] = {
    "shares its weights between layers, so that they are not independent": (
        *("albert", "hrm_text", "inkling2_loop_text"),
    ),
    "mixes tokens by a state space": ("mamba", "mamba2", "falcon_mamba"),
    "has layers that mix tokens by a state space": (
        *("jamba", "bamba", "falcon_h1", "nemotron_h", "zamba", "zamba2", "granitemoehybrid"),
    ),
    "mixes tokens by a linear recurrence": ("rwkv",),
    "mixes tokens by a recurrence": ("xlstm",),
    "has layers that mix tokens by a recurrence": ("recurrent_gemma",),
    "has layers that mix tokens by linear attention": (
        *("bailing_hybrid", "kimi_linear", "lara_mini", "minimax", "olmo_hybrid", "qwen3_next"),
        *("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen4_exp"),
        "qwen4_exp_text",
    ),
    "has layers that mix tokens by convolutions": (
        *("lfm2", "lfm2_moe", "lfm3", "inkling_text", "inkling2_text", "zaya", "convbert"),
    ),
    "mixes tokens by a Fourier transform": ("fnet",),
    "pools its tokens between layers": ("funnel",),
    "shares queries with keys, and reaches them by hashes": ("reformer",),
    "replaces softmax by an approximation": ("nystromformer", "yoso", "mra"),
    "attends to blocks that are drawn": ("big_bird",),
    "is an encoder with a decoder that attends to it": (
        *("bart", "mbart", "pegasus", "bigbird_pegasus", "blenderbot", "blenderbot-small"),
        *("marian", "mvp", "plbart", "prophetnet"),
    ),
    "attends from one set of tokens to another": ("trocr", "blt", "perceiver"),
    "has layers of different widths": (
        *("swin", "swinv2", "donut-swin", "hiera", "pvt", "pvt_v2", "segformer", "dinat", "cvt"),
        *("levit", "mobilevit", "mobilevitv2", "swiftformer", "poolformer", "focalnet"),
    ),
    "is a network of convolutions": (
        *("bit", "convnext", "convnextv2", "efficientnet", "hgnet_v2", "mobilenet_v1"),
        *("mobilenet_v2", "pp_lcnet", "regnet", "resnet", "textnet"),
    ),
    "names a model of timm, and does not tell its block": ("timm_wrapper",),
}

#: Families that are known and not described, with the term that is missing.
NOT_DESCRIBED: dict[str, str] = {
    name: reason for reason, names in _NOT_DESCRIBED.items() for name in names
}

#: Families whose layers are known to have no limit here, with the reason.
WITHOUT_LIMIT: dict[str, str] = {
    name: reason for reason, names in _WITHOUT_LIMIT.items() for name in names
}
