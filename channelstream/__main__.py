"""`python -m channelstream`."""

import sys

from channelstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
