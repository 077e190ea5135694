"""python -m learning.classifier: what it is called now."""

from fedjury.config.renamed import program

program("python -m learning.classifier", "python -m fedjury.learning.classifier")
