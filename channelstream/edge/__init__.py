"""The edge: holds the clients' sockets. Knows which of *its* clients are on which channel, and nothing else."""
