"""How messages travel between the processes of a group: a port, ZeroMQ behind it, and a twin in memory."""
