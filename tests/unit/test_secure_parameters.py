"""How many neighbours, and how many of them undo a mask: published numbers, and small groups."""

from __future__ import annotations

from math import floor

import pytest
from scipy.stats import hypergeom

from fedjury.secure.parameters import Parameters, parameters

GOOGLE = [
    # n, colluding, dropping, honest but curious, semi-malicious (None: a second to compute)
    (100, 0.05, 0.05, (12, 6), (16, 11)),
    (1_000, 0.05, 0.05, (30, 17), (52, 37)),
    (1_000, 0.05, 0.33, (72, 24), None),
    (1_000, 0.33, 0.05, (78, 60), (132, 109)),
    (1_000, 0.33, 0.33, (286, 150), None),
    (10_000, 0.05, 0.05, (34, 20), (62, 44)),
]
"""As tests of Google's implementation have them (federated-compute, graph_parameter_finder)."""

RECIPE = [
    (20, 0.2, 0.05, (6, 5), (8, 7)),
    (20, 0.2, 0.1, (8, 5), (10, 8)),
    (50, 0.2, 0.05, (14, 11), (16, 14)),
    (50, 0.2, 0.1, (16, 11), (22, 17)),
    (50, 0.2, 0.2, (22, 11), (32, 22)),
    (50, 0.33, 0.1, (22, 17), (28, 23)),
    (50, 0.33, 0.2, (28, 17), (38, 28)),
    (100, 0.2, 0.05, (26, 20), (32, 27)),
    (100, 0.2, 0.1, (32, 21), (42, 32)),
    (1_000, 0.1, 0.05, (38, 24), (66, 49)),
    (1_000, 0.2, 0.05, (52, 37), (90, 71)),
    (1_000, 0.2, 0.1, (68, 44), (140, 104)),
    (1_000, 0.2, 0.2, (98, 54), None),
    (10_000, 0.2, 0.05, (62, 44), (114, 89)),
]
"""As a port of it has them, with floating point in the place of whole numbers."""


@pytest.mark.parametrize(("n", "colluding", "dropping", "curious", "malicious"), GOOGLE + RECIPE)
def test_published_numbers(n, colluding, dropping, curious, malicious):
    """Degree and threshold are those of the published table, exactly."""
    assert parameters(n, colluding, dropping) == Parameters(*curious)
    if malicious:
        assert parameters(n, colluding, dropping, semi_malicious=True) == Parameters(*malicious)


@pytest.mark.parametrize(
    ("n", "colluding", "dropping", "expected"),
    [
        (3, 0, 0, (2, 2)),  # all with all: two neighbours, and both are needed
        (4, 0.33, 0.34, (3, 2)),  # one colludes, one leaves: two of the two who are left
        (4, 0.5, 0, (3, 3)),  # two collude, so it takes a third
        (6, 0.5, 0.2, (5, 4)),  # three collude, one leaves: four of the neighbours are left
        (10, 0.5, 0.34, (9, 6)),
    ],
)
def test_small_groups_are_all_neighbours(n, colluding, dropping, expected):
    """Where no part of a group would do, all are neighbours; more than the colluding ones undo."""
    assert parameters(n, colluding, dropping) == Parameters(*expected)


def test_of_all_with_all_a_majority_where_that_is_stricter():
    """Of five neighbours, two of whom collude, no two sets of 4 have only these in common."""
    assert parameters(6, 0.34, 0.17) == Parameters(4, 3)
    assert parameters(6, 0.34, 0.17, semi_malicious=True) == Parameters(5, 4)


@pytest.mark.parametrize(
    ("n", "colluding", "dropping", "bad", "gone"),
    [(2, 0, 0, 0, 0), (3, 0, 0.34, 0, 1), (6, 0.5, 0.34, 3, 2), (10, 0.7, 0.3, 7, 3)],
)
def test_impossible_groups_are_refused(n, colluding, dropping, bad, gone):
    """The sentence says how many agents, colluding ones and drop-outs, and what helps."""
    with pytest.raises(ValueError) as caught:
        parameters(n, colluding, dropping)
    assert str(caught.value) == (
        f"no secure aggregation of {n} agents stands {bad} that collude and {gone} that drop out: "
        "take larger groups, or smaller shares"
    )


def test_shares_are_those_that_are_written():
    """.29 of 100 are 29 who collude, though the nearest floating point number makes them fewer."""
    assert 0.29 * 100 < 29
    assert parameters(100, 0.29, 0.05) == parameters(100, 0.295, 0.05)
    assert parameters(100, 0.29, 0.05) != parameters(100, 0.28, 0.05)


@pytest.mark.parametrize("n", [4, 5, 7, 10, 13, 20, 35, 50, 100])
@pytest.mark.parametrize("colluding", [0, 0.1, 0.33])
@pytest.mark.parametrize("dropping", [0, 0.1, 0.25])
def test_what_the_parameters_promise(n, colluding, dropping):
    """By SciPy's hypergeometric law: enough are left for all of n, too few collude at any."""
    bad, gone = floor(colluding * n), floor(dropping * n)
    degree, threshold = parameters(n, colluding, dropping)
    assert 2 <= threshold <= degree < n
    if degree == n - 1:  # one of the neighbours fewer may be there, where the agent itself is
        assert bad < threshold < n - gone
    else:
        assert n * hypergeom.sf(threshold - 1, n, bad, degree) <= 2**-41 * (1 + 1e-6)
        assert n * hypergeom.cdf(threshold - 1, n, n - gone, degree) <= 2**-20
