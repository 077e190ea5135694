"""Fuzzing: hostile bytes for everything that decodes. ``python -m fuzz --help``."""
