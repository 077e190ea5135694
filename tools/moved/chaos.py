"""python -m chaos: what it is called now."""

from fedjury.config.renamed import program

program("python -m chaos", "python -m tools.chaos")
