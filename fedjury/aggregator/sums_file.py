"""Which sums of updates were opened over the model at hand, on disk before another one is.

An update follows from its base model and its agent's data; so as long as a run stands on a model,
no update may be in two sums that differ, whatever happens to the aggregator meanwhile. Where groups
stay together, that holds for the whole run.
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
        "bases": {base.hex(): [one._asdict() for one in some] for base, some in sums.bases},
        "ever": [one._asdict() for one in sums.ever],
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
        bases = tuple(
            (bytes.fromhex(base), tuple(map(_sum, some))) for base, some in content["bases"].items()
        )
        ever = tuple(map(_sum, content.get("ever", ())))  # older files have none
        return OpenedSums(int(content["round"]), int(content["attempt"]), bases, ever)
    except Exception as why:  # of JSON, or the system
        raise damaged(file, why) from why


def _sum(said: dict[str, list[str]]) -> OpenedSum:
    return OpenedSum(tuple(map(str, said["members"])), tuple(map(str, said["survivors"])))
