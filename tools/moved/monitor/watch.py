"""python -m monitor.watch: what it is called now."""

from fedjury.config.renamed import program

program("python -m monitor.watch", "fedjury watch")
