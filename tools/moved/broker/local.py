"""python -m broker.local: what it is called now."""

from fedjury.config.renamed import program

program("python -m broker.local", "fedjury broker")
