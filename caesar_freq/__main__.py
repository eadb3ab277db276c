"""``python -m caesar_freq`` is the command ``caesar-freq``."""

from caesar_freq.cli import main

if __name__ == "__main__":
    main()
