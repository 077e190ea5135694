"""python -m monitor.exporter: what it is called now."""

from fedjury.config.renamed import program

program("python -m monitor.exporter", "fedjury exporter")
