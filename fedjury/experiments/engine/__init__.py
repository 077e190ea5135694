"""What runs a grid of federations, and makes tables and pictures of them."""
