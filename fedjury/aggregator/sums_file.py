"""Which sums of updates were opened over the model at hand, on disk before another one is.

An update follows from its base model and its agent's data; so as long as a run stands on a model,
no update may be in two sums that differ, whatever happens to the aggregator meanwhile.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedjury.aggregator.durable_files import damaged, readable
from fedjury.round.sums import OpenedSum, OpenedSums

SUMS = "sums.json"
"""Its name in the folder of the run."""


def packed(sums: OpenedSums) -> bytes:
    """Write them as a file holds them."""
    content = {
        "round": sums.round,
        "attempt": sums.attempt,
        "base": sums.base.hex(),
        "sums": [{"members": one.members, "survivors": one.survivors} for one in sums.sums],
    }
    return json.dumps(content).encode()


def unpacked(file: Path) -> OpenedSums:
    """Read them.

    Raises
    ------
    StoreError
        If the file is damaged: without it nobody knows which sums may not be opened.
    """
    readable(file)
    try:
        content = json.loads(file.read_bytes())
        sums = tuple(
            OpenedSum(tuple(map(str, one["members"])), tuple(map(str, one["survivors"])))
            for one in content["sums"]
        )
        base = bytes.fromhex(content["base"])
        return OpenedSums(int(content["round"]), int(content["attempt"]), base, sums)
    except Exception as why:  # of JSON, or the system
        raise damaged(file, why) from why
