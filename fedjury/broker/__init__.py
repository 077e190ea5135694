"""The broker's side: its configuration, and a private broker for one machine."""
