"""python -m fuzz: what it is called now."""

from fedjury.config.renamed import program

program("python -m fuzz", "python -m tools.fuzz")
