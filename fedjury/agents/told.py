"""What people are told of a run that does not fit the agents that are to take part in it."""

OTHERWISE = (
    "the aggregator expects other agents than these, so its reports may be wrong: it has "
    "{theirs}; these have {ours}; give both the same --config, --seed and --set"
)
"""What people are told where one side has a scenario that the other has not."""

OTHER_PROTOCOL = (
    "the aggregator of this run speaks protocol {theirs}, and these agents speak {ours}: install "
    "the same version of fedjury on both sides"
)
"""What people are told where the two cannot talk to each other."""

UNFIT = "{why}; waiting until the run has a manifest that fits"
"""What people are told where a run cannot be taken part in as it is now."""
