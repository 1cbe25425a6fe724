"""A small decoder in PyTorch, and a factory of it by the rules: what the tests of checks share."""

import torch
from torch import nn

from translimit.checks import TorchModel
from translimit.describe import Role, Size
from translimit.scaling import rules

BASE = Size(head_dim=8, heads=2, layers=2, mlp_ratio=2)
TOKENS, CLASSES, PIXELS = 4, 6, 5


class Attention(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        d = size.width
        self.heads, self.scaling = size.heads, size.head_dim**-0.5
        self.query, self.key = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.value, self.out = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)

    def forward(self, x):
        q, k, v = (
            m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for m in (self.query, self.key, self.value)
        )
        weights = torch.softmax(self.scaling * q @ k.transpose(-2, -1), dim=-1)
        return self.out((weights @ v).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        d, hidden = size.width, int(size.width * size.mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = Attention(size)
        self.up, self.down = nn.Linear(d, hidden, bias=False), nn.Linear(hidden, d, bias=False)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.dropout(self.down(torch.nn.functional.gelu(self.up(self.norm2(x)))))


class Toy(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        self.embed = nn.Linear(PIXELS, size.width, bias=False)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, CLASSES, bias=False)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


ENDS = {
    "embed.weight": Role.PATCH_EMBEDDING,
    "attention.query.weight": Role.QUERY,
    "attention.key.weight": Role.KEY,
    "attention.value.weight": Role.VALUE,
    "attention.out.weight": Role.ATTENTION_OUT,
    "up.weight": Role.MLP_IN,
    "down.weight": Role.MLP_OUT,
    "norm1.weight": Role.BLOCK_NORM_GAIN,
    "norm2.weight": Role.BLOCK_NORM_GAIN,
    "norm1.bias": Role.BLOCK_NORM_BIAS,
    "norm2.bias": Role.BLOCK_NORM_BIAS,
    "norm.weight": Role.FINAL_NORM_GAIN,
    "norm.bias": Role.FINAL_NORM_BIAS,
    "head.weight": Role.READOUT,
}


def roles_of(model: nn.Module) -> dict[str, Role]:
    return {
        name: next(role for end, role in ENDS.items() if name.endswith(end))
        for name, _ in model.named_parameters()
    }


def batch(step: int, size: int = 8):
    generator = torch.Generator().manual_seed(step)
    labels = torch.arange(size) % CLASSES
    pictures = torch.randn(CLASSES, TOKENS, PIXELS, generator=torch.Generator().manual_seed(99))
    return pictures[labels] + 0.3 * torch.randn(size, TOKENS, PIXELS, generator=generator), labels


def loss(model: nn.Module, examples):
    return nn.functional.cross_entropy(model(examples[0]), examples[1])


def toy(trial, change=None) -> TorchModel:
    """The rules by hand, without the adapter: folded style, AdamW."""
    torch.manual_seed(trial.seed)
    made = rules(trial.base, trial.size, optimizer="adamw", style="folded")
    model, groups = Toy(trial.size), []
    roles = roles_of(model)
    for module in model.modules():
        if isinstance(module, Attention):
            module.scaling = trial.size.head_dim**-0.5 if trial.standard else made.score_scale
    width = trial.size.width if trial.standard else trial.base.width
    for name, parameter in model.named_parameters():
        role, rule = roles[name], made.role(roles[name])
        factor = 1.0 if trial.standard else rule.init
        if parameter.ndim == 2:
            std = PIXELS**-0.5 if role is Role.PATCH_EMBEDDING else width**-0.5
            std = 0.0 if role is Role.READOUT else std * factor
            nn.init.normal_(parameter, std=std)
        numbers = {"lr": rule.lr, "eps": rule.eps}
        if trial.standard:
            numbers = {"lr": 1.0, "eps": 1.0}
        if change is not None:
            change(role, numbers, parameter, trial)
        groups.append(
            {
                "params": [parameter],
                "lr": trial.rate * numbers["lr"],
                "eps": 1e-8 * numbers["eps"],
                "weight_decay": 0.0,
            }
        )
    return TorchModel(
        model=model,
        optimizer=torch.optim.AdamW(groups, betas=(0.9, 0.95)),
        batch=batch,
        loss=loss,
        rules=made,
        roles=roles,
    )
