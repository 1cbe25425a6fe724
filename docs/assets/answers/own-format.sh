cat > block.toml <<'END'
kind = "stack"
dim = 512
layers = [{repeat = 3, attention = {scores = {window = 16}}}, {}]
norm = "rms"
placement = "peri"
attention = {heads = 8, kv_heads = 2, qk_norm = {}, rotary = {dims = 64}}
feed_forward = {width = 1408, activation = "silu", gated = true}
embedding = {std = 0.02, multiplier = 22.6}
END
translimit predict block.toml --tokens 24 | sed -n '1,/^What decides/p'
