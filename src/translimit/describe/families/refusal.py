"""What a stack refuses is told by the keys of the configuration that describes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from translimit.core import ArgumentError, ConfigError, NoSuchLimitError, brief
from translimit.describe.families.keys import ALIASES, Keys

#: Arguments of parts of a stack, and the keys of configurations that they are made from.
_MADE_FROM = {
    "kv_heads": ("heads", "kv_heads"),
    "key_heads": ("heads", "kv_heads"),
    "heads": ("heads",),
    "dim": ("dim",),
    "padding": ("pad",),
    "width": (
        *("mlp_dim", "mlp_ratio", "moe_intermediate_size", "n_shared_experts"),
        *("num_shared_experts", "moe_num_shared_experts"),
        *("shared_intermediate_size", "shared_expert_intermediate_size"),
    ),
    "inner": ("embedding_size", "input_embedding_size", "word_embed_proj_dim"),
    "count": ("experts",),
    "active": ("active", "experts"),
    "groups": ("n_group", "experts"),
    "active_groups": ("topk_group", "n_group"),
    "score_scale": ("attention_multiplier", "query_pre_attn_scalar"),
    "softcap": ("attn_logit_softcapping",),
    "factor": ("routed_scaling_factor",),
    "rotary": ("qk_rope_head_dim", "head_dim"),
    "rope_dim": ("qk_rope_head_dim",),
    "window": ("window", "local_attention"),
    "registers": ("num_register_tokens",),
    "bias_buckets": ("relative_attention_num_buckets",),
    "bias_reach": ("relative_attention_max_distance", "relative_attention_num_buckets"),
}


@contextlib.contextmanager
def told_by(k: Keys) -> Iterator[None]:
    """Turn what a part of a stack refuses into a `ConfigError` that names file and keys.

    Args:
        k: the configuration.

    Raises:
        ConfigError: a part of the stack refused a value.
    """
    try:
        yield
    except (ConfigError, NoSuchLimitError):
        raise
    except ArgumentError as error:
        told = []
        for name in _MADE_FROM.get(error.argument, ()):
            key, value = k.told(name)
            if value is not None:
                told.append(f"{key} is {brief(value)}")
            elif name in ALIASES:
                told.append(f"{key} is not given")
        made = f" ({', '.join(told)})" if told else ""
        problem = f"{error.argument}: {error.problem}{made}"
        raise ConfigError(k.where, problem, error.remedy) from error
