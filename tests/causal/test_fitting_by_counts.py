"""Fitting by counts: the shares of what was counted, whatever the order of rows, and of what was never seen too."""

from collections import Counter

import pytest
import torch

from synthfair_hf.causal.fitting import _distinct, fit_by_counts
from synthfair_hf.causal.mechanisms import GumbelMaxMechanism
from synthfair_hf.domains.presets import get_preset

COVARIATES = get_preset("nih_chestxray14").covariates


def binary(share: float, rows: int, seed: int) -> torch.Tensor:
    return (torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < share).long()


def fitted(columns: dict[str, torch.Tensor], order: torch.Tensor) -> GumbelMaxMechanism:
    torch.manual_seed(0)
    mechanism = GumbelMaxMechanism(COVARIATES["atelectasis"], COVARIATES.subset(("effusion", "pneumothorax")))
    fit_by_counts(mechanism, {name: column[order] for name, column in columns.items()})
    return mechanism


def test_shares_are_those_counted_and_the_order_of_rows_never_matters():
    columns = {"effusion": binary(0.3, 4000, 1), "pneumothorax": binary(0.1, 4000, 2)}
    odds = 0.05 + 0.3 * columns["effusion"] + 0.2 * columns["pneumothorax"]
    columns["atelectasis"] = (torch.rand(4000, generator=torch.Generator().manual_seed(3)) < odds).long()
    mechanism = fitted(columns, torch.arange(4000))
    with torch.no_grad():
        shares = mechanism.log_prob(torch.ones(4000, dtype=torch.int64), columns).exp()
    for one in (0, 1):
        for other in (0, 1):
            cell = (columns["effusion"] == one) & (columns["pneumothorax"] == other)
            assert shares[cell].mean().item() == pytest.approx(
                columns["atelectasis"][cell].float().mean().item(), abs=0.02
            )
    again = fitted(columns, torch.arange(3999, -1, -1))
    assert all(torch.equal(one, other) for one, other in zip(mechanism.parameters(), again.parameters(), strict=True))


def test_what_nobody_with_a_cause_has_is_unlikely_and_not_impossible():
    columns = {"effusion": binary(0.02, 2000, 4), "pneumothorax": torch.zeros(2000, dtype=torch.int64)}
    columns["atelectasis"] = (1 - columns["effusion"]) * binary(0.5, 2000, 5)
    mechanism = fitted(columns, torch.arange(2000))
    present = torch.ones(2, dtype=torch.int64)
    with torch.no_grad():
        share = mechanism.log_prob(present, {"effusion": present, "pneumothorax": 0 * present}).exp()[0].item()
    assert 1e-4 < share < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_distinct_rows_and_their_counts_are_those_that_counting_one_by_one_gives(seed):
    rows = torch.randint(-1, 3, (60, 3), generator=torch.Generator().manual_seed(seed)).double()
    distinct, counts = _distinct(rows)
    counted = sorted(Counter(map(tuple, rows.tolist())).items())
    assert [(tuple(row), count) for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)] == counted
