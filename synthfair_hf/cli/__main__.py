"""`python -m synthfair_hf.cli VERB`, as a launcher of several processes starts it."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
