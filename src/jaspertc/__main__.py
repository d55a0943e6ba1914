"""``python -m jaspertc``."""

from jaspertc.cli import main

main()
