"""Watching runs from their topics alone: what was heard, in words, in pictures, in metrics."""
