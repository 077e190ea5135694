"""The server: collects updates, combines them, asks for votes, keeps the model."""
