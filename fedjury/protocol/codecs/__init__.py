"""Codecs: how the numbers of a vector are written as bytes, one file each.

What is around them (zstd, the checks of what arrives) is in ``fedjury.protocol.compression``. A
new codec is one file here, or offered by an installed package (``registry``).
"""
