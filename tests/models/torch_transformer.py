"""An independent transformer in torch, float64, written from the formulas: the oracle of ours.

It knows shapes and parameterizations only through numbers passed in, loops over layers and heads,
and works on batches.
"""

import math

import torch


def forward(shape, mult, logit, branch, skip, w, inputs):
    """Outputs of a batch; `mult` and `w` are dictionaries by name of floats and tensors."""

    def lin(name, x, layer=None):
        weight, bias = w[name], w.get(f"{name}_bias")
        if layer is not None:
            weight, bias = weight[layer], None if bias is None else bias[layer]
        y = torch.nn.functional.linear(x, mult[name] * weight)
        return y if bias is None else y + mult[f"{name}_bias"] * bias

    def norm(name, x, layer=None):
        if shape.norm is None:
            return x
        if shape.norm == "layer":
            x = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=shape.norm_eps)
        else:
            x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + shape.norm_eps)
        gain, bias = w.get(f"{name}_gain"), w.get(f"{name}_bias")
        if gain is None:
            return x
        x = x * mult[f"{name}_gain"] * (gain if layer is None else gain[layer])
        if bias is not None:
            x = x + mult[f"{name}_bias"] * (bias if layer is None else bias[layer])
        return x

    def rotate(x):
        if shape.positions != "rotary":
            return x
        pairs = x.shape[-1] // 2
        z = torch.complex(x[..., :pairs], x[..., pairs:])
        place = torch.arange(x.shape[-2], dtype=torch.float64)
        speed = shape.rotary_base ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        z = z * torch.exp(1j * place[:, None] * speed)
        return torch.cat([z.real, z.imag], dim=-1)

    def phi(x):
        if shape.slopes is not None:
            plus, minus = (1 + c / math.sqrt(shape.dim) for c in shape.slopes)
            y = torch.where(x > 0, plus * x, minus * x)
            return y * math.sqrt(2 / (plus**2 + minus**2))
        return {
            "gelu": torch.nn.functional.gelu,
            "tanh": torch.tanh,
            "silu": torch.nn.functional.silu,
        }[shape.activation.value](x)

    if shape.patch_dim is not None:
        h = torch.nn.functional.linear(inputs, mult["patch_embedding"] * w["patch_embedding"])
        if shape.biases:
            h = h + mult["patch_bias"] * w["patch_bias"]
    else:
        h = mult["token_embedding"] * w["token_embedding"][inputs]
    if shape.positions == "learned":
        h = h + mult["position_embedding"] * w["position_embedding"]
    size, heads, shared = shape.head_dim, shape.heads, shape.key_value_heads
    tokens = h.shape[1]
    for layer in range(shape.layers):
        u = norm("attention_norm", h, layer)
        q, k, v = (lin(name, u, layer) for name in ("query", "key", "value"))
        outs = []
        for head in range(heads):
            other = head * shared // heads
            mine = slice(head * size, (head + 1) * size)
            theirs = slice(other * size, (other + 1) * size)
            scores = logit * rotate(q[..., mine]) @ rotate(k[..., theirs]).transpose(-1, -2)
            mask = torch.ones(tokens, tokens, dtype=torch.bool)
            if shape.causal:
                mask = torch.tril(mask)
            rows = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)
            if shape.shaped:
                uniform = mask.double() / mask.sum(-1, keepdim=True)
                gain = [
                    mult[f"{n}_gain"] * w[f"{n}_gain"][layer, head]
                    for n in ("identity", "attention", "centring")
                ]
                eye = torch.eye(tokens, dtype=torch.float64)
                rows = gain[0] * eye + gain[1] * rows - gain[2] * uniform
            outs.append(rows @ v[..., theirs])
        h = skip * h + branch * lin("attention_out", torch.cat(outs, dim=-1), layer)
        if shape.hidden:
            x = norm("mlp_norm", h, layer)
            y = lin("mlp_in", x, layer)
            y = phi(lin("mlp_gate", x, layer)) * y if shape.gated else phi(y)
            h = skip * h + branch * lin("mlp_out", y, layer)
    h = norm("final_norm", h)
    if shape.pooled:
        h = h.mean(1)
    if shape.tied:
        out = torch.nn.functional.linear(h, mult["readout"] * w["token_embedding"])
        return out + mult["readout_bias"] * w["readout_bias"] if shape.biases else out
    return lin("readout", h)
