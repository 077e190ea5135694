"""Federated learning over MQTT that can be attacked and defends itself."""
