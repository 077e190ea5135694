"""Programs for those who work on fedjury: benchmarks, faults on purpose, fuzzing."""
