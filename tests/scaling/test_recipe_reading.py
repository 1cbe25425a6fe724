"""The recipe of a user's own code, read off live groups: what is off is found by parameter."""

import pytest

from translimit.core import ArgumentError
from translimit.scaling import Size, recipes, rules_for
from translimit.scaling.adapters import roles
from translimit.scaling.adapters.torch import apply

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=16, heads=4, layers=2)
TARGET = Size(head_dim=16, heads=20, layers=2)  # m_d = 5, all else 1
#: The plain readout of `Model` is drawn by fan-in: start, rate and epsilon lack the factor 1 / m_d.
READOUT = {"readout.start": 5**0.5, "readout.rate": 5.0, "readout.epsilon": 0.2}


class Block(torch.nn.Module):
    """Norms and maps by their usual names."""

    def __init__(self, d):
        super().__init__()
        self.attention_norm, self.mlp_norm = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.attn = torch.nn.ModuleDict(
            {name: torch.nn.Linear(d, d) for name in ("q", "k", "v", "o")}
        )
        self.mlp = torch.nn.ModuleDict(
            {
                "up": torch.nn.Linear(d, 4 * d),
                "gate": torch.nn.Linear(d, 4 * d),
                "down": torch.nn.Linear(4 * d, d),
            }
        )


class Model(torch.nn.Module):
    """A language model with learned positions."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        d = size.width
        self.embed, self.wpe = torch.nn.Embedding(512, d), torch.nn.Embedding(64, d)
        self.blocks = torch.nn.ModuleList(Block(d) for _ in range(size.layers))
        self.norm, self.head = torch.nn.LayerNorm(d), torch.nn.Linear(d, 512, bias=False)


def built(size, faulty=()):
    """Groups as mup has them; the rates of `faulty` are those of the base."""
    model, ratio, groups = Model(size), size.width / BASE.width, []
    for name, tensor in model.named_parameters():
        hidden = "blocks" in name and tensor.ndim == 2
        group = {"params": [tensor], "lr": 0.01, "weight_decay": 0.1, "eps": 1e-8}
        if hidden:
            group |= {"lr": 0.01 / ratio, "weight_decay": 0.1 * ratio}
        if any(one in name for one in faulty):
            group["lr"] *= ratio
        groups.append(group)
    return torch.optim.AdamW(groups), model


def differences(own, recipe="mup", base=BASE, target=TARGET):
    return {one.number: one.value for one in recipes.diff(own, recipe, base, target, "adamw")}


@pytest.mark.parametrize(
    ("faulty", "number"),
    [
        ((), None),
        (("mlp.gate.weight",), "mlp_gate.rate"),
        (("wpe",), "position_embedding.rate"),
        (("blocks.1.mlp.up.weight",), "mlp_in.rate (blocks.1.mlp.up.weight)"),
        (("blocks.1.attn.q.weight",), "query.rate (blocks.1.attn.q.weight)"),
        (("attn.v.bias",), "value_bias.rate"),
    ],
)
def test_what_is_off_is_found_wherever_it_stands(faulty, number):
    own = recipes.read(*built(TARGET, faulty), roles=roles, base=built(BASE), sizes=(BASE, TARGET))
    off = {} if number is None else {number: 5.0}
    if number is not None and not number.startswith(
        "value_bias"
    ):  # biases do not count as decaying
        off[number.replace("rate", "decay")] = 5.0
    assert differences(own) == pytest.approx(READOUT | off)


def test_the_rules_applied_to_a_small_llama_are_read_as_the_rules():
    """Starts of 32 and 64 entries a row: 3 % would refuse them, their own error does not."""
    transformers = pytest.importorskip("transformers")

    def config(heads, layers):
        return transformers.LlamaConfig(
            vocab_size=4096,
            hidden_size=8 * heads,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            num_hidden_layers=layers,
            intermediate_size=32 * heads,
        )

    small, large = config(4, 2), config(8, 4)

    def made(wanted):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(wanted)
        groups = apply(model, rules_for(small, wanted, optimizer="adamw"), lr=3e-3)
        return torch.optim.AdamW(groups), model

    base = Size(head_dim=8, heads=4, layers=2, mlp_ratio=4)
    target = Size(head_dim=8, heads=8, layers=4, mlp_ratio=4)
    own = recipes.read(*made(large), roles=roles, base=made(small), sizes=(base, target))
    assert {"mlp_gate.start", "query.rate", "readout.epsilon"} <= set(own)
    assert differences(own, "translimit", base, target) == {}
    assert "query.decay" not in own
    half = differences(own, "translimit-half", base, target)
    assert half["query.rate"] == pytest.approx(2**0.5)


def test_what_the_forward_pass_multiplies_is_told():
    """The readout with 1 / m_d in the forward pass, as mup has it."""

    def own(**told):
        optimizer, model = built(TARGET)
        base_optimizer, base = built(BASE)
        for one in (model, base):
            with torch.no_grad():  # mup's readout starts as wide as at the base
                one.head.weight.mul_(one.head.weight.shape[1] ** 0.5)
        return recipes.read(
            optimizer,
            model,
            roles=roles,
            base=(base_optimizer, base),
            sizes=(BASE, TARGET),
            **told,
        )

    assert differences(own(multipliers={"readout": (1.0, 0.2)})) == {}
    assert set(differences(own())) == set(READOUT)
    with pytest.raises(ArgumentError, match=r"head: is no row of a recipe"):
        own(multipliers={"head": (1.0, 0.2)})


def test_scales_that_two_tensors_exchange_are_no_difference():
    """A gain at 1/5 with five times larger readers trains the same network."""

    def moved(size, theta):
        optimizer, model = built(size)
        for group in optimizer.param_groups:
            tensor = group["params"][0]
            name = next(name for name, one in model.named_parameters() if one is tensor)
            by = 1.0
            if "attention_norm" in name or "mlp_norm" in name:
                by = theta
            elif any(f".{one}.weight" in name for one in ("q", "k", "v", "up", "gate")):
                by = 1 / theta
            with torch.no_grad():
                tensor.mul_(by)
            group["lr"], group["eps"] = group["lr"] * by, group["eps"] / by
            group["weight_decay"] /= by
        return optimizer, model

    own = recipes.read(
        *moved(TARGET, 0.2), roles=roles, base=moved(BASE, 1.0), sizes=(BASE, TARGET)
    )
    assert own["block_gain.rate"] == pytest.approx(0.2)
    assert own["query.rate"] == pytest.approx(1.0)
    assert differences(own) == pytest.approx(READOUT)


def test_a_map_in_front_of_a_norm_has_no_scale():
    """Branch ends five times as large with five times the rate, and a norm behind them."""

    def scaled(size, by):
        optimizer, model = built(size)
        for group in optimizer.param_groups:
            tensor = group["params"][0]
            name = next(name for name, one in model.named_parameters() if one is tensor)
            if "attn.o." in name or "down." in name:
                with torch.no_grad():
                    tensor.mul_(by)
                group["lr"], group["eps"] = group["lr"] * by, group["eps"] / by
                group["weight_decay"] /= by
        return optimizer, model

    def own(normed):
        return recipes.read(
            *scaled(TARGET, 5.0),
            roles=roles,
            base=scaled(BASE, 1.0),
            sizes=(BASE, TARGET),
            normed=normed,
        )

    assert differences(own(("attention_out", "mlp_out"))) == pytest.approx(READOUT)
    plain = differences(own(()))
    assert plain["mlp_out.start"] == pytest.approx(5.0)
    assert plain["mlp_out.epsilon"] == pytest.approx(0.2)


def test_what_is_not_compared_and_not_decided_is_told():
    own = recipes.read(*built(TARGET), roles=roles, base=built(BASE), sizes=(BASE, TARGET))
    lacking = recipes.not_compared(own, "nanogpt-mup", BASE, TARGET, "adamw")
    assert {"mlp_gate.rate", "position_embedding.rate"} <= set(lacking)
    assert not {"query.rate", "readout.rate"} & set(lacking)
    assert not own.undecided
    near = Size(head_dim=16, heads=5, layers=2)
    doubtful = recipes.read(*built(near), roles=roles, base=built(BASE), sizes=(BASE, near))
    assert "query.start" not in doubtful.undecided  # two matrices of 4,096 entries
    small, close = Size(head_dim=2, heads=4, layers=2), Size(head_dim=2, heads=5, layers=2)
    few = recipes.read(*built(close), roles=roles, base=built(small), sizes=(small, close))
    assert "m_d" in few.undecided["query.start"]
