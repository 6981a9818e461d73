"""Measures the server and its peers: each claim of speed is a command here. See bench/README.md."""
