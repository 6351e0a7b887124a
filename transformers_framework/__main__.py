"""``python -m transformers_framework``."""

import sys

from transformers_framework.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
