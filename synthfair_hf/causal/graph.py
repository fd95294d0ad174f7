"""A causal graph: which covariates are direct causes of which. Edges only; immutable."""

from collections.abc import Iterable

import networkx

from ..arguments import checked
from ..errors import InputError, unknown

__all__ = ["CausalGraph"]


class CausalGraph:
    """A directed acyclic graph over named covariates.

    Args:
        names: of the covariates; their order decides ties.
        edges: (cause, effect) pairs.

    Raises:
        InputError: an edge names an unknown covariate, or edges form a cycle.
    """

    @checked
    def __init__(self, names: Iterable[str], edges: Iterable[tuple[str, str]]) -> None:
        self._graph = networkx.DiGraph()
        self._graph.add_nodes_from(names)
        for cause, effect in edges:
            for end in (cause, effect):
                if end not in self._graph:
                    raise unknown(f"edge {cause} -> {effect}", end, self._graph.nodes)
            self._graph.add_edge(cause, effect)
        if not networkx.is_directed_acyclic_graph(self._graph):
            cycle = " -> ".join(cause for cause, _ in networkx.find_cycle(self._graph))
            raise InputError(f"edges: {cycle} is a cycle; remove one of its edges.")
        networkx.freeze(self._graph)

    @property
    def names(self) -> tuple[str, ...]:
        """Covariates, each after all its causes; ties in the order given, so that the order is reproducible."""
        position = {name: index for index, name in enumerate(self._graph.nodes)}
        return tuple(networkx.lexicographical_topological_sort(self._graph, key=position.__getitem__))

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """(cause, effect) pairs."""
        return tuple(self._graph.edges)

    def parents(self, name: str) -> tuple[str, ...]:
        """Direct causes, sorted by name."""
        return tuple(sorted(self._graph.predecessors(name)))

    def descendants(self, names: Iterable[str]) -> frozenset[str]:
        """Everything any of `names` causes, directly or not, without `names` themselves unless one causes another."""
        return frozenset().union(*(networkx.descendants(self._graph, name) for name in names))
