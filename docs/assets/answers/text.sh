cat > notes.txt <<'END'
a transformer at its start knows nothing, and what it does to a text depends on which letters repeat
END
cat > bytes.json <<'END'
{"model_type": "llama", "vocab_size": 256, "hidden_size": 512, "num_hidden_layers": 6,
 "num_attention_heads": 8, "intermediate_size": 1376}
END
translimit predict bytes.json --text notes.txt --tokens 32 | sed -n '3p;/repeated tokens/,/^$/p'
