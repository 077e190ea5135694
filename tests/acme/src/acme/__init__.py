"""A company's own models, data and defences, written against fedjury's public names only."""
