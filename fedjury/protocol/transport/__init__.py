"""How messages travel: in memory within one process, or over MQTT through a broker."""
