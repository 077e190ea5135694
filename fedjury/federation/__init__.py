"""A whole federation on this machine: broker, aggregator and agents, progress, and a report."""
