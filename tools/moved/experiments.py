"""python -m experiments: what it is called now."""

from fedjury.config.renamed import program

program("python -m experiments", "fedjury experiment")
