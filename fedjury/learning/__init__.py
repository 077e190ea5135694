"""The mathematics both sides need: networks, training, evaluation, judges and data sets."""
