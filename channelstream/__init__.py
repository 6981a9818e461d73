"""A realtime message server for people who write backends.

Importing this package changes nothing: no patching, no logging set-up, no reading of the environment.
"""

__version__ = "0.1.0"
