"""One forward pass of a PyTorch module as a graph: which operation reads what, and from whom.

Below all modules a forward pass is a list of operations on tensors. They are recorded in order with
the tensors they read and give, so that two questions have answers that no name decides:

* does one tensor depend on another (`Graph.depends`);
* how does one depend on the size of another: `Graph.undone` runs the operations between the two
  again, with the first one 0, 64 and 512 times a tensor drawn at random. Behind a norm the last two
  give the same, up to its epsilon.

What depends on parameters and constants alone, such as 1 + w or an embedding of positions, counts
as a parameter. Writes into a part of a tensor are read by whoever reads the tensor later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch._ops import OpOverload

#: The share of an effect that still changes behind a norm, by its epsilon.
SHARE = 3e-3
ONCE, TWICE = 64.0, 512.0


@dataclass(slots=True)
class Node:
    """One operation, or a tensor from outside.

    Attributes:
        what: name of the operation, without its overload; empty for what comes from outside.
        reads: the nodes that it reads, in the order of its arguments.
        value: what it gives: a tensor, or several.
        parameter: names, where it is a parameter.
        constant: whether it depends on parameters and constants alone.
        call: the operation.
        args: of the call, with `_Of` in the places of tensors.
        writes: whether it changes one of its arguments.
    """

    what: str
    reads: tuple[int, ...] = ()
    value: Any = None
    parameter: tuple[str, ...] = ()
    constant: bool = False
    call: Callable[..., Any] | None = None
    args: tuple[Any, Any] = ((), {})
    writes: bool = False


@dataclass(frozen=True, slots=True)
class _Of:
    """The tensor at a place of what a node gives."""

    node: int
    place: int | None


@dataclass
class Graph:
    """A recorded forward pass.

    Attributes:
        nodes: in the order of their calls, so that a node reads earlier ones only.
        outputs: the nodes whose tensors the module returned.
        called: names of the modules that were called.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    called: frozenset[str] = frozenset()
    _above: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Find all nodes on which each depends: once, when all are recorded."""
        self._above = []
        for index, node in enumerate(self.nodes):
            mask = 1 << index
            for read in node.reads:
                mask |= self._above[read]
            self._above.append(mask)

    def depends(self, node: int, on: int) -> bool:
        """Whether what a node gives depends on what another one gives; on itself it does."""
        return bool(self._above[node] >> on & 1)

    def shape(self, node: int) -> tuple[int, ...]:
        """Of the first tensor that a node gives."""
        return tuple(_first(self.nodes[node].value).shape)

    def between(self, first: int, last: int) -> list[int]:
        """The nodes that depend on the first and on which the last depends, both included."""
        return [
            n for n in range(first, last + 1) if self.depends(last, n) and self.depends(n, first)
        ]

    def undone(self, sources: Collection[int], node: int) -> bool:
        """Whether a norm between makes what a node gives free of the size of some others.

        Args:
            sources: the nodes whose tensors are multiplied together.
            node: that depends on one of them.
        """
        import torch

        draw = torch.Generator().manual_seed(0)
        drawn = {one: _random(self.nodes[one].value, draw) for one in sources}
        on_the_way = {n for one in sources for n in self.between(one, node)}
        fixed = {r for n in on_the_way for r in self.nodes[n].reads if self.nodes[r].constant}
        zeros = {  # a gain or a map that starts at zero would hide what is before it
            index: _random(one.value, draw)
            for index, one in enumerate(self.nodes)
            if one.parameter and not one.value.count_nonzero()
            if any(self.depends(read, index) for read in fixed)
        }

        def at(factor: float) -> Tensor:
            times = {one: _times(value, factor) for one, value in drawn.items()}
            return _first(self._again({**zeros, **times}, node)).double()

        none, once, twice = at(0.0), at(ONCE), at(TWICE)
        change, effect = float((twice - once).norm()), float((once - none).norm())
        return effect > 0 and change <= SHARE * effect

    def _again(self, given: Mapping[int, Any], node: int) -> Any:
        """What a node gives where some others give something else."""
        import torch

        made: dict[int, Any] = dict(given)
        with torch.no_grad():
            for index in range(min(given), node + 1):
                one = self.nodes[index]
                if index in made or one.call is None or not self.depends(node, index):
                    continue
                if not any(read in made for read in one.reads):
                    continue

                def tensor(of: _Of, copied: bool = one.writes) -> Tensor:
                    value = made.get(of.node, self.nodes[of.node].value)
                    value = value if of.place is None else value[of.place]
                    return value.clone() if copied else value

                args, kwargs = _mapped(one.args, _Of, tensor)
                made[index] = one.call(*args, **kwargs)
        return made.get(node, self.nodes[node].value)


class _Recorder:
    """Makes a node of every operation."""

    def __init__(self, parameters: Mapping[str, Tensor], constants: Iterable[Tensor]) -> None:
        self.graph = Graph()
        self._kept: list[Tensor] = []  # so that no tensor takes the identity of another
        self._of: dict[int, _Of] = {}
        self._written: dict[int, int] = {}
        names: dict[int, list[str]] = {}
        for name, tensor in parameters.items():
            names.setdefault(id(tensor), []).append(name)
        for tensor in {id(one): one for one in parameters.values()}.values():
            self._add(Node("", (), tensor.detach(), tuple(names[id(tensor)]), True), tensor)
        for tensor in constants:
            self._add(Node("", (), tensor, (), True), tensor)

    def _add(self, node: Node, tensor: Tensor) -> _Of:
        self._kept.append(tensor)
        self.graph.nodes.append(node)
        self._of[id(tensor)] = _Of(len(self.graph.nodes) - 1, None)
        return self._of[id(tensor)]

    def of(self, tensor: Tensor) -> _Of:
        """Where a tensor came from; a new one comes from outside."""
        return self._of.get(id(tensor)) or self._add(Node("", (), tensor), tensor)

    def called(
        self, func: OpOverload, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Run an operation, and record it."""
        from torch import Tensor

        reads, later = list[int](), list[int]()

        def place(tensor: Tensor) -> _Of:
            found = self.of(tensor)
            reads.append(found.node)
            last = self._written.get(_memory(tensor), -1)
            if last > found.node:
                later.append(last)
            return found

        writes = func._schema.is_mutable
        told = _mapped((args, kwargs), Tensor, place)
        if writes:  # earlier nodes keep what they gave
            for one in reads:
                self.graph.nodes[one].value = _mapped(
                    self.graph.nodes[one].value, Tensor, Tensor.clone
                )
        value = func(*args, **kwargs)
        read = tuple(reads + later)
        constant = all(self.graph.nodes[one].constant for one in read)
        name = str(func.overloadpacket.__name__)
        node = Node(name, read, value, (), constant, func, told, writes)
        self.graph.nodes.append(node)
        index = len(self.graph.nodes) - 1
        outputs = (value,) if isinstance(value, Tensor) else value
        for number, one in enumerate(outputs if isinstance(outputs, tuple | list) else ()):
            if isinstance(one, Tensor):
                self._kept.append(one)
                self._of[id(one)] = _Of(index, None if value is one else number)
                if writes:
                    self._written[_memory(one)] = index
        return value


def _recording(recorder: _Recorder) -> Any:
    """The mode in which every operation goes through a recorder."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            func: OpOverload,
            types: object,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            return recorder.called(func, args, kwargs or {})

    return Recording()


def traced(model: nn.Module, run: Callable[[nn.Module], object]) -> Graph:
    """The graph of one forward pass, in evaluation mode and without gradients.

    Args:
        model: any module; its weights, modes and random states stay as they are.
        run: from the module to its output.

    Returns:
        the graph, which holds what every operation gave.
    """
    import torch

    recorder = _Recorder(dict(model.named_parameters(remove_duplicate=False)), model.buffers())
    called, modes = set[str](), [(module, module.training) for module in model.modules()]
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
    ]
    fast, state = torch.backends.mha.get_fastpath_enabled(), torch.get_rng_state()
    torch.backends.mha.set_fastpath_enabled(False)  # which is one operation for a whole layer
    model.eval()
    try:
        with torch.no_grad(), _recording(recorder):
            output = run(model)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(state)
    found = list[int]()
    _mapped(_plain(output), torch.Tensor, lambda tensor: found.append(recorder.of(tensor).node))
    recorder.graph.outputs, recorder.graph.called = tuple(found), frozenset(called)
    recorder.graph.close()
    return recorder.graph


def _plain(output: Any) -> Any:
    """What a module returned without the classes that hold it."""
    if isinstance(output, Mapping):
        return tuple(_plain(one) for one in output.values())
    return tuple(_plain(one) for one in output) if isinstance(output, tuple | list) else output


def _mapped(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """A structure of tuples, lists and dictionaries with a function of all things of a kind."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple | list):
        made = [_mapped(one, kind, function) for one in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, dict):
        return {key: _mapped(one, kind, function) for key, one in value.items()}
    return value


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _random(value: Any, draw: torch.Generator) -> Any:
    import torch

    def made(one: Tensor) -> Tensor:
        if not one.is_floating_point():
            return one
        return torch.randn(one.shape, generator=draw, dtype=torch.float64).to(one)

    return _mapped(value, torch.Tensor, made)


def _times(value: Any, factor: float) -> Any:
    from torch import Tensor

    return _mapped(value, Tensor, lambda one: one * factor if one.is_floating_point() else one)


def _first(value: Any) -> Tensor:
    """The first tensor of what an operation gave."""
    one: Sequence[Any] = value if isinstance(value, tuple | list) else (value,)
    return one[0]
