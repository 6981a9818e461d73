"""The REST API: checks requests, finds the owners of what they name, asks them, and gathers their answers."""
