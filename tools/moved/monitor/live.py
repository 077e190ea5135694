"""python -m monitor.live: what it is called now."""

from fedjury.config.renamed import program

program("python -m monitor.live", "fedjury page")
