"""Who was in groups that were voted down, in whole federations: fakes are named and go."""

from __future__ import annotations

import pytest
from support.federation import Federation, one_thread  # noqa: F401 - a fixture

from fedjury.agents.assembly import simulated_agents_of

pytestmark = pytest.mark.usefixtures("one_thread")

BLAMING = {
    "groups__size": 2,
    "groups__secret": True,
    "validation__on": "groups",
    "validation__validators": 6,
    "validation__quorum": 3,
    "validation__look_back": 4,
    "validation__judge": "robust",
    "detection__detectors": ["group_testing"],
    "detection__quarantine": True,
    "agents__malicious": 0.1,
    "agents__attack": "mpaf",
    "agents__scale": 1e6,
    "agents__start": 7,
    "run__rounds": 18,
}
"""Twenty agents in pairs, of whom two send poison from round 7 on."""


def fakes(federation):
    spec = simulated_agents_of(federation.settings).spec
    return {spec.name(number) for number in spec.malicious_agents}


def test_fakes_in_groups_are_named_by_votes_alone_and_no_longer_selected(tmp_path):
    """Both fakes end in quarantine, nobody else is ever flagged, and then no group is left out."""
    done = Federation(tmp_path, **BLAMING).whole()
    flagged = {name for record in done.records for name in record.detection.flagged}
    assert flagged == fakes(done)
    last = done.records[-1]
    assert set(last.detection.quarantined) == fakes(done)
    assert (last.selected, last.groups.left_out) == (18, ())


def test_a_resumed_run_blames_as_one_that_was_never_stopped(tmp_path):
    """Stopped after round 9, of which the groups' verdicts are still to be looked at."""
    first = Federation(tmp_path / "cut", **BLAMING | {"run__rounds": 9}).whole()
    (tmp_path / "whole").mkdir()
    key = (tmp_path / "cut" / "groups.key").read_bytes()
    (tmp_path / "whole" / "groups.key").write_bytes(key)
    again = Federation(tmp_path / "cut", **BLAMING).whole()
    through = Federation(tmp_path / "whole", **BLAMING).whole()
    seen = {record.round: record.detection for record in [*first.records, *again.records]}
    assert len(seen) == 18
    assert seen == {record.round: record.detection for record in through.records}
