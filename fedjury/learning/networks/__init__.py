"""The networks a federation can train, one file each; ``fedjury.learning.models`` builds them."""
