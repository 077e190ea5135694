"""Settings of a run: TOML files and command-line flags become one frozen record."""
