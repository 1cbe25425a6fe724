"""Scales that two tensors exchange: training does not change, and the canonical form neither."""

import pytest

from translimit.scaling import Size, recipes
from translimit.scaling.recipes import Monomial
from translimit.scaling.recipes.exchanges import canonical

torch = pytest.importorskip("torch")

D, HEADS, TOKENS, WORDS, STEPS = 12, 2, 5, 7, 15
MATRICES = ("query", "key", "value", "attention_out", "mlp_in", "mlp_gate", "mlp_out")
BIASES = {"query": "query_bias", "value": "value_bias", "attention_out": "attention_out_bias"}
BIASES |= {"mlp_in": "block_bias", "mlp_out": "end_bias"}
#: Rows with theta, rows with 1 / theta, and whether the scores have 1 / theta.
EXCHANGES = {
    "query and key": (("query", "query_bias"), ("key",), False),
    "value and output": (("value", "value_bias"), ("attention_out",), False),
    "gated MLP": (("mlp_in", "block_bias"), ("mlp_out",), False),
    "gain and readers": (
        ("block_gain", "block_norm_bias"),
        ("query", "key", "value", "mlp_in", "mlp_gate"),
        False,
    ),
    "final gain and readout": (("final_gain",), ("readout",), False),
    "query and scores": (("query", "query_bias"), (), True),
    "the stream": (
        (
            *("embedding", "position_embedding", "attention_out", "attention_out_bias"),
            *("mlp_out", "end_bias"),
        ),
        (),
        False,
    ),
}


def start():
    """A block with a gated MLP between embedding and readout, by rows, in float64."""
    random = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64) / shape[-1] ** 0.5

    made = {row: drawn(D, D) for row in MATRICES}
    made |= {bias: 0.1 * drawn(D) for bias in BIASES.values()}
    made |= {"embedding": drawn(WORDS, D), "position_embedding": drawn(TOKENS, D)}
    made |= {"block_gain": 1 + drawn(D), "block_norm_bias": drawn(D), "final_gain": 1 + drawn(D)}
    return made | {"readout": drawn(WORDS, D)}


def logits(w, words, scores):
    def norm(x):  # without an epsilon, which has the unit of the stream
        x = x - x.mean(-1, keepdim=True)
        return x / x.pow(2).mean(-1, keepdim=True).sqrt()

    def mapped(row, x):
        return x @ w[row].T + w.get(BIASES.get(row, ""), 0.0)

    h = w["embedding"][words] + w["position_embedding"]
    x = norm(h) * w["block_gain"] + w["block_norm_bias"]
    q, k, v = (mapped(row, x).view(TOKENS, HEADS, -1) for row in ("query", "key", "value"))
    weights = torch.softmax(scores * torch.einsum("ihn,jhn->hij", q, k), -1)
    h = h + mapped("attention_out", torch.einsum("hij,jhn->ihn", weights, v).reshape(TOKENS, D))
    x = norm(h) * w["block_gain"] + w["block_norm_bias"]
    gate = torch.nn.functional.silu(mapped("mlp_gate", x))
    h = h + mapped("mlp_out", gate * mapped("mlp_in", x))
    return norm(h) * w["final_gain"] @ w["readout"].T


def trained(optimizer, theta=1.0, exchange="query and key", power=None):
    """Losses along training with a scale exchanged."""
    with_theta, against, scored = EXCHANGES[exchange]
    p = power or (2 if optimizer == "sgd" else 1)
    by = dict.fromkeys(with_theta, theta) | dict.fromkeys(against, 1 / theta)
    w, rate = start(), 0.05 if optimizer == "sgd" else 0.01
    groups = []
    for row in w:
        of = by.get(row, 1.0)
        w[row] = (of * w[row]).requires_grad_()
        group = {"params": [w[row]], "lr": rate * of**p, "weight_decay": 0.1 / of**p}
        groups.append(group if optimizer == "sgd" else group | {"eps": 0.03 / of})
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    made = kind(groups)
    words = torch.tensor([0, 3, 3, 5, 1])
    losses = []
    for _ in range(STEPS):
        made.zero_grad()
        out = logits(w, words, (1 / theta if scored else 1.0) * (D / HEADS) ** -0.5)
        loss = torch.nn.functional.cross_entropy(out, words.roll(1))
        loss.backward()
        made.step()
        losses.append(loss.item())
    return torch.tensor(losses)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_training_does_not_see_the_exchange(optimizer, exchange):
    plain = trained(optimizer)
    assert plain[-1] < 0.9 * plain[0]
    assert (trained(optimizer, 1.7, exchange) - plain).abs().max() < 1e-12
    wrong = 1 if optimizer == "sgd" else 2  # the rate's other power
    assert (trained(optimizer, 1.7, exchange, wrong) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_canonical_form_does_not_see_the_exchange(optimizer, exchange):
    made = recipes.of_rules(_rules(optimizer))
    with_theta, against, scored = EXCHANGES[exchange]
    theta = Monomial.of("d1/2 L")
    by = dict.fromkeys(with_theta, theta) | dict.fromkeys(against, theta**-1)
    here = {*start(), "scores"}  # rows of the network that was trained
    told = {key: one for key, one in made.exponents.items() if key.partition(".")[0] in here}
    moved = dict(told)
    for key in moved:
        row, _, number = key.partition(".")
        of = by.get(row, Monomial())
        factor = {"start": of, "rate": of ** made.powers.get(row, 1), "epsilon": of**-1}
        moved[key] *= factor.get(number, Monomial())
    if scored:
        moved["scores"] /= theta
    assert moved != told
    assert canonical(moved, made.powers) == told
    for wrong in (Monomial.of("d"), Monomial.of("L")):  # a number off by a factor stays off
        off = moved | {"mlp_out.rate": moved["mlp_out.rate"] * wrong}
        assert canonical(off, made.powers) != told


@pytest.mark.parametrize("name", ["mup", "nanogpt-mup", "megatron", "archscale-mup++", "standard"])
def test_recipes_stand_in_canonical_form(name):
    base, target = Size(head_dim=8, heads=4, layers=2), Size(head_dim=16, heads=8, layers=2)
    made = recipes.get(name).at(base, target, "adamw")
    assert made.canonical().exponents == made.exponents


def _rules(optimizer):
    from translimit.scaling import rules

    base, target = Size(head_dim=8, heads=4, layers=2), Size(head_dim=16, heads=8, layers=6)
    return rules(base, target, optimizer=optimizer)
