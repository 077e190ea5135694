"""python -m broker.enrol: what it is called now."""

from fedjury.config.renamed import program

program("python -m broker.enrol", "fedjury enroll")
