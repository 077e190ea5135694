"""python -m monitor.gateway: what it is called now."""

from fedjury.config.renamed import program

program("python -m monitor.gateway", "fedjury gateway")
