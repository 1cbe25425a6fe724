cat > mine.json <<'END'
{"model_type": "llama", "vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 16,
 "num_attention_heads": 16, "intermediate_size": 2816}
END
translimit predict mine.json --tokens 32 | sed -n '/^What to look out for/,/^$/p'
