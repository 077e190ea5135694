"""The gateway: HTTP clients become agents on the broker."""
