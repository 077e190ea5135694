"""Many machines: workers that hold the updates of a round, and an engine that keeps them alive."""
