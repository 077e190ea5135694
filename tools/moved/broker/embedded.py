"""python -m broker.embedded: what it is called now."""

from fedjury.config.renamed import program

program("python -m broker.embedded", "python -m fedjury.broker.embedded")
