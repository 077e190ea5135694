"""The contract between aggregator and agents: messages, topics, bytes and the links they travel.

``docs/protocol.md`` says the same for people who write an agent in another language.
"""
