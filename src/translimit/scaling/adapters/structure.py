"""What a module of PyTorch does, read off one forward pass instead of off names.

The graph of a pass (`translimit.scaling.adapters.traced`) tells the stream and its branches: a
residual sum adds to a tensor something that depends on it, or on what was the stream before it.
From the sums follow the order of the branches, which are parallel, which parameter is read before,
in, at the end of, or behind a branch, and what a norm makes free of scale: a tensor is multiplied,
and the operations after it are run again.

What is read in other ways, such as streams that are mixed by matrices, has no place, and nothing is
said about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from translimit.core import TorchModule
from translimit.scaling.adapters.branches import Branch, Place, Structure
from translimit.scaling.adapters.names import bare_name
from translimit.scaling.adapters.probe import Example, runner
from translimit.scaling.adapters.tables import unwrapped

if TYPE_CHECKING:
    from translimit.scaling.adapters.traced import Graph

#: Operations that sum over products with a matrix, and where their addend and their factors are.
PRODUCTS = {
    **dict.fromkeys(
        ("mm", "bmm", "mv", "dot", "convolution", "linear", "matmul", "_grouped_mm"), 0
    ),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), 1),
}
#: Operations that change no number.
_SAME = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "expand", "squeeze", "unsqueeze", "transpose", "t"),
        *("permute", "clone", "detach", "alias", "contiguous", "_to_copy", "slice", "select"),
        *("split", "split_with_sizes", "unbind", "chunk"),
    }
)
_ATTENTION = "scaled_dot_product"


def structure_of(model: TorchModule, example: Example) -> Structure:
    """What a module does on an example; weights, modes and random states stay as they are.

    Args:
        model: any `torch.nn.Module`; its weights may be anything but NaN.
        example: an input of the module: a tensor, a tuple, arguments by name, or a function that
            runs it. A short one is enough: what every operation gives is kept.

    Returns:
        the branches of the stream, and where every parameter is read.
    """
    from translimit.scaling.adapters.traced import traced

    inner = unwrapped(model)
    return _Reading(traced(inner, runner(example))).structure(inner)


@dataclass(frozen=True)
class _Sum:
    """A residual sum: the stream that its branch reads, and the end of the branch."""

    node: int
    read: int
    end: int
    skipped: bool


@dataclass(frozen=True)
class _Use:
    """Where a parameter meets what depends on the input."""

    names: tuple[str, ...]
    node: int
    kind: str


class _Reading:
    """The facts of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses = self._uses()
        self.maps = sorted({one.node for one in self.uses if one.kind == "map"})
        self.scores = self._scores()
        self.inside: dict[int, frozenset[int]] = {}
        self.sums = self._sums()
        self.ordered = {one.node: self._maps(one) for one in self.sums}

    def structure(self, model: TorchModule) -> Structure:
        """All facts."""
        places: dict[str, set[Place]] = {}
        branches = tuple(self._branch(one) for one in self.sums)
        for use in self.uses:
            place = self._place(use)
            if place is not None:
                for name in use.names:
                    places.setdefault(name, set()).add(place)
        read = {name for use in self.uses for name in use.names}
        for name, _ in model.named_parameters(remove_duplicate=False):
            if bare_name(name) not in read:
                places[bare_name(name)] = {Place.NOWHERE}
        idle = [
            name
            for name, module in model.named_modules()
            if name not in self.graph.called
            and (own := [n for n, _ in module.named_parameters(name, recurse=False)])
            and all(places.get(bare_name(one)) == {Place.NOWHERE} for one in own)
        ]
        gains = {name for use in self.uses if use.kind == "gain" for name in use.names}
        found = {name: frozenset(those) for name, those in places.items()}
        return Structure(branches, found, frozenset(gains), self._final_norm(), tuple(idle))

    def _uses(self) -> list[_Use]:
        """Where what depends on parameters alone is read by what depends on more."""
        graph, found = self.graph, list[_Use]()
        parameters = [n for n, node in enumerate(graph.nodes) if node.parameter]
        for index, node in enumerate(graph.nodes):
            if node.constant or not any(graph.depends(one, index) for one in graph.outputs):
                continue
            for read in dict.fromkeys(node.reads):
                if not graph.nodes[read].constant:
                    continue
                for one in parameters:
                    if graph.depends(read, one):
                        kind = self._kind(index, read)
                        names = tuple(map(bare_name, graph.nodes[one].parameter))
                        found.append(_Use(names, index, kind))
        return found

    def _kind(self, index: int, read: int) -> str:
        """What a parameter does at an operation: `map`, `gain`, `bias` or `other`."""
        node = self.graph.nodes[index]
        at, wide = node.reads.index(read), self.graph.nodes[read].value
        if node.what in PRODUCTS:
            first = PRODUCTS[node.what]
            last = 1 if node.what == "convolution" else first + 1
            return "map" if first <= at <= last else "bias"
        if node.what == "embedding":
            return "rows"
        if "norm" in node.what:
            return "gain" if at == 1 else "bias"
        if node.what in ("mul", "mul_", "div", "div_"):
            return "gain" if wide.numel() > 1 else "factor"
        return "bias" if node.what in ("add", "add_", "sub", "sub_") else "other"

    def _scores(self) -> list[int]:
        """Where scores become weights of a sum over tokens: fused attention, or a softmax."""
        graph, found = self.graph, list[int]()
        for index, node in enumerate(graph.nodes):
            if node.what in PRODUCTS and not node.constant:
                for read in node.reads:
                    origin = self._origin(read)
                    if graph.nodes[origin].what in ("_softmax", "softmax", "_safe_softmax"):
                        found.append(origin)
            elif _ATTENTION in node.what:
                found.append(index)
        return sorted(set(found))

    def _makes_scores(self, source: int, one: _Sum) -> bool:
        """Whether scores of the branch read a node: those of fused attention as queries or keys."""
        inside = self._inside(one)
        return any(self._enters_scores(source, node) for node in self.scores if node in inside)

    def _enters_scores(self, source: int, scores: int) -> bool:
        return any(self.graph.depends(read, source) for read in self._scored(scores))

    def _scored(self, scores: int) -> tuple[int, ...]:
        """Queries and keys, where attention is one operation; else the scores."""
        node = self.graph.nodes[scores]
        return node.reads[:2] if _ATTENTION in node.what else node.reads[:1]

    def _origin(self, index: int, scaled: bool = False) -> int:
        """The node from which operations that change no number lead to one."""
        while True:
            node = self.graph.nodes[index]
            moving = [one for one in node.reads if not self.graph.nodes[one].constant]
            same = node.what in _SAME
            if scaled and node.what in ("mul", "div"):
                fixed = [self.graph.nodes[one] for one in node.reads if one not in moving]
                same = all(one.value.numel() == 1 for one in fixed)
            if not same or len(moving) != 1:
                return index
            index = moving[0]

    def _sums(self) -> list[_Sum]:
        """The residual sums on the way to the output, without those that span others."""
        graph, streams, found = self.graph, dict[int, int](), list[_Sum]()
        for index, node in enumerate(graph.nodes):
            if node.what not in ("add", "add_") or node.constant or len(set(node.reads)) < 2:
                continue
            if not any(graph.depends(one, index) for one in graph.outputs):
                continue
            first, second = node.reads[:2]
            if graph.shape(first) != graph.shape(second):
                continue
            for skip, end in ((first, second), (second, first)):
                start = stream = self._origin(skip, scaled=True)
                while not graph.depends(end, stream) and stream in streams:
                    stream = streams[stream]  # what was the stream before it
                maps = [one for one in self.maps if graph.depends(one, stream)]
                inside = [one for one in maps if graph.depends(end, one) and one > stream]
                if inside and stream != end and graph.depends(end, stream):
                    found.append(_Sum(index, stream, end, stream != start))
                    streams[index] = stream
                    break
        return [
            one
            for one in found
            if not any(other.node in self._inside(one) for other in found if other.node != one.node)
        ]

    def _inside(self, one: _Sum) -> frozenset[int]:
        """The nodes of a branch, without the stream that it reads."""
        if one.node not in self.inside:
            self.inside[one.node] = frozenset(self.graph.between(one.read, one.end)[1:])
        return self.inside[one.node]

    def _maps(self, one: _Sum) -> tuple[list[int], list[int], list[int]]:
        """The maps of a branch in their order, the first and the last of them."""
        inside = self._inside(one)
        maps = [node for node in self.maps if node in inside]
        depends = self.graph.depends
        first = [m for m in maps if not any(m != n and depends(m, n) for n in maps)]
        last = [m for m in maps if not any(m != n and depends(n, m) for n in maps)]
        return maps, first, last

    def _branch(self, one: _Sum) -> Branch:
        graph, (maps, first, last) = self.graph, self.ordered[one.node]
        names = {use.node: use.names[0] for use in self.uses if use.kind == "map"}
        scores = [node for node in self.scores if node in self._inside(one)]
        apart = any(not any(graph.depends(m, s) for s in scores) for m in last) if scores else False
        beside = apart and any(graph.depends(m, s) for m in last for s in scores)
        linear = [m for m in last if self._carries(m, one.end)]
        reads = [r for m in first for r in graph.nodes[m].reads if graph.depends(r, one.read)]
        made = [(m, r) for s in scores for r in self._scored(s) for m in maps]
        made = [(m, r) for m, r in made if graph.depends(r, m)]
        gains = [u for u in self.uses if u.kind == "gain" and u.node in self._inside(one)]
        before = [u for u in gains if not any(graph.depends(u.node, m) for m in maps)]
        return Branch(
            maps=tuple(names[m] for m in maps),
            ends=tuple(names[m] for m in linear),
            attention=bool(scores),
            parallel=one.skipped or beside,
            reads_norm=all(graph.undone([one.read], r) for r in reads),
            ends_in_norm=bool(linear) and graph.undone(linear, one.end),
            normed_scores=bool(made) and all(graph.undone([m], r) for m, r in made),
            gains=tuple(name for use in before for name in use.names),
        )

    def _carries(self, node: int, end: int) -> bool:
        """Whether a last map is no router or gate, whose sigmoid or softmax multiplies another."""
        graph = self.graph
        bounded = ("sigmoid", "_softmax", "softmax", "topk", "tanh", "silu", "gelu", "relu")
        between = graph.between(node, end)
        return not any(graph.nodes[n].what in bounded for n in between)

    def _place(self, use: _Use) -> Place | None:
        graph, at = self.graph, use.node
        for one in self.sums:
            if at not in self._inside(one):
                continue
            maps, _, last = self.ordered[one.node]
            if use.kind == "map" or (at in maps and use.kind == "bias"):
                if at in last:
                    return Place.END_MAP if self._carries(at, one.end) else Place.INNER
                return Place.SCORE_MAP if self._makes_scores(at, one) else Place.INNER
            behind = [m for m in maps if graph.depends(at, m)]
            if any(m in last for m in behind):
                return Place.END
            if not behind:
                return Place.ENTRY
            return Place.SCORES if self._makes_scores(at, one) else Place.INNER
        if not self.sums:
            return None
        if graph.depends(self.sums[0].read, at):
            return Place.EMBEDDING
        if not graph.depends(at, self.sums[-1].node):
            between = any(graph.depends(one.read, at) for one in self.sums)
            return Place.STREAM if between and use.kind != "map" else None
        after = [m for m in self.maps if graph.depends(m, self.sums[-1].node)]
        final = [m for m in after if not any(m != n and graph.depends(n, m) for n in after)]
        if use.kind == "map":
            return Place.READOUT if at in final else None
        return Place.FINAL if not any(graph.depends(at, m) for m in after) else None

    def _final_norm(self) -> bool:
        if not self.sums:
            return False
        last, graph = self.sums[-1].node, self.graph
        ends = [m for m in self.maps if graph.depends(m, last)]
        of = [r for m in ends[-1:] for r in graph.nodes[m].reads] if ends else list(graph.outputs)
        reads = [r for r in of if graph.depends(r, last)]
        return bool(reads) and all(graph.undone([last], r) for r in reads)
