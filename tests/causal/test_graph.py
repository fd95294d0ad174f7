from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.causal.graph import CausalGraph
from synthfair_hf.errors import InputError

NAMES = ("a", "b", "c", "d", "e")


@st.composite
def acyclic(draw: st.DrawFn) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Names in any order, and edges that all follow one hidden order."""
    hidden = draw(st.permutations(NAMES))
    edges = draw(st.lists(st.sampled_from(list(combinations(hidden, 2))), unique=True))
    return tuple(draw(st.permutations(NAMES))), edges


def reachable(edges: set[tuple[str, str]], start: str) -> set[str]:
    """Ends of every directed path from `start`, by trying every sequence of distinct names."""
    return {
        path[-1]
        for length in range(1, len(NAMES))
        for path in permutations(NAMES, length)
        if start not in path and set(zip((start, *path), path, strict=False)) <= edges
    }


@given(acyclic())
def test_every_cause_precedes_its_effects(case):
    names, edges = case
    order = CausalGraph(names, edges).names
    assert sorted(order) == sorted(names)
    assert all(order.index(cause) < order.index(effect) for cause, effect in edges)


@given(acyclic(), st.randoms(use_true_random=False))
def test_order_of_edges_never_matters(case, random):
    names, edges = case
    shuffled = list(edges)
    random.shuffle(shuffled)
    ours, theirs = CausalGraph(names, edges), CausalGraph(names, shuffled)
    assert ours.names == theirs.names
    assert set(ours.edges) == set(theirs.edges) == set(edges)
    assert all(ours.parents(name) == theirs.parents(name) for name in names)


@given(acyclic())
def test_parents_are_the_direct_causes(case):
    names, edges = case
    graph = CausalGraph(names, edges)
    for name in names:
        assert graph.parents(name) == tuple(sorted(cause for cause, effect in edges if effect == name))


@given(acyclic(), st.sets(st.sampled_from(NAMES)))
def test_descendants_are_the_ends_of_all_paths(case, starts):
    names, edges = case
    expected = set().union(*(reachable(set(edges), start) for start in starts))
    assert CausalGraph(names, edges).descendants(starts) == expected


@given(acyclic())
def test_names_without_edges_keep_the_order_given(case):
    names, _ = case
    assert CausalGraph(names, []).names == names


@given(acyclic(), st.data())
def test_closing_a_path_is_refused(case, data):
    names, edges = case
    graph = CausalGraph(names, edges)
    backward = [(effect, cause) for cause in names for effect in {*graph.descendants([cause]), cause}]
    with pytest.raises(InputError, match="is a cycle; remove one of its edges"):
        CausalGraph(names, [*edges, data.draw(st.sampled_from(backward))])


def test_a_cycle_is_spelled_out():
    with pytest.raises(InputError, match="edges: a -> b -> c is a cycle"):
        CausalGraph(NAMES, [("a", "b"), ("b", "c"), ("c", "a")])


@pytest.mark.parametrize("edge", [("agee", "sex"), ("sex", "agee")])
def test_a_stranger_is_refused_by_edge_and_name(edge: tuple[str, str]):
    with pytest.raises(InputError, match=rf"edge {edge[0]} -> {edge[1]}: 'agee' is unknown; .* did you mean 'age'\?"):
        CausalGraph(["age", "sex"], [edge])


def test_the_graph_is_immutable():
    graph = CausalGraph(["a", "b"], [("a", "b")])
    with pytest.raises(Exception, match="Frozen graph"):
        graph._graph.add_edge("b", "a")
