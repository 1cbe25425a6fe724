"""Keys of configurations that do not act on a forward pass at initialisation.

Reviewed one by one: identities and files, tokens' numbers, generation, dropout (none acts outside
training), caches and kernels, losses and heads on top, precision.
"""

from __future__ import annotations

#: Identities, files and precision.
_FILES = (
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "model_type"),
    *("transformers_version", "tokenizer_class", "name_or_path", "revision", "id", "version"),
    *("quantization_config", "compression_config", "_attn_implementation_autoset"),
    *("attn_implementation", "_attn_implementation", "torchscript", "bf16", "fp16", "use_bfloat16"),
    *("prefix", "finetuning_task", "transformers_weights", "_commit_hash", "unsloth_version"),
    *("unsloth_fixed", "onnx_safe", "is_decoder", "add_cross_attention", "is_encoder_decoder"),
    *("cross_attention_hidden_size", "tie_encoder_decoder", "chunk_size_feed_forward"),
    *("softmax_precision", "use_flash_attn", "use_flash_attention", "flash_attention"),
    *("use_dynamic_ntk", "use_cache_kernel", "use_cache_quantization", "use_logn_attn_kernel"),
)
#: Tokens and generation.
_TOKENS = (
    *("eos_token_ids", "bos_token", "eos_token", "unk_token", "suppress_tokens"),
    *("begin_suppress_tokens", "forced_decoder_ids", "bad_words_ids", "max_length", "min_length"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p"),
    *("typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "num_return_sequences", "output_scores", "do_sample"),
    *("early_stopping", "return_dict_in_generate", "remove_invalid_values", "use_cache"),
    *("exponential_decay_length_penalty", "task_specific_params", "generation_config"),
    *("max_target_positions", "max_source_positions", "scale_embedding_generation"),
)
#: Training, heads on top, outputs.
_HEADS = (
    *("attention_dropout", "hidden_dropout", "dropout", "activation_dropout", "classifier_dropout"),
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout_prob"),
    *(
        "attn_pdrop",
        "embd_pdrop",
        "resid_pdrop",
        "layerdrop",
        "encoder_layerdrop",
        "drop_path_rate",
    ),
    *("decoder_layerdrop", "emb_dropout_prob", "dropout_rate", "mlp_dropout", "embedding_dropout"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "summary_last_dropout", "id2label", "label2id", "num_labels"),
    *("problem_type", "output_attentions", "output_hidden_states", "return_dict", "pruned_heads"),
    *("gradient_checkpointing", "reorder_and_upcast_attn", "pretraining_tp", "use_return_dict"),
    *("router_aux_loss_coef", "output_router_logits", "router_jitter_noise", "aux_loss_alpha"),
    *("router_z_loss_coef", "seq_aux", "ep_size", "moe_layer_freq_loss", "pooler_act"),
    *(
        "pooler_hidden_size",
        "pooler_output_size",
        "image_mean",
        "image_std",
        "encoder_stride",
        "out_features",
    ),
    *("out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states", "use_mask_token"),
    *("num_nextn_predict_layers", "classifier_activation", "classifier_bias", "classifier_pooling"),
    *("decoder_bias", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index"),
    *("reference_compile", "repad_logits_with_grad", "global_attn_heads", "gradient_clip"),
    *("mask_time_prob", "mask_feature_prob", "apply_spec_augment"),
    *("embedding_initializer_range", "use_weighted_layer_sum", "classifier_proj_size"),
)
#: Biases start at zero, gains at one, and their presence changes nothing.
_BIASES = (
    *("attention_bias", "mlp_bias", "bias", "use_bias", "qkv_bias", "use_qkv_bias", "lm_head_bias"),
    *("add_bias_linear", "add_qkv_bias", "attention_out_bias", "norm_bias", "no_bias"),
    *("head_bias", "use_bias_qkv", "attention_qkv_bias"),
)
#: Interleaving, packing and layouts of equal law.
_LAYOUT = (
    *("rope_interleave", "rope_interleaved", "use_rms_norm", "padded_vocab_size"),
    *(
        "vocab_size_or_config_json_file",
        "layer_norm_elementwise_affine",
    ),
    *("original_rope", "apply_query_key_layer_scaling", "attention_softmax_in_fp32"),
    *(
        "bias_dropout_fusion",
        "fp32_residual_connection",
    ),
    *("masked_softmax_fusion", "slow_but_exact", "offset_alibi"),
    *("scale_attention_softmax_in_fp32", "validate_runner_input", "attention_softmax_in_fp32"),
    *(
        "inference_runner",
        "max_batch_size",
        "max_sequence_length",
        "pad_key_length",
        "pre_allocate",
    ),
)

INERT: frozenset[str] = frozenset((*_FILES, *_TOKENS, *_HEADS, *_BIASES, *_LAYOUT))
