"""``python -m mk2dbus``."""

import sys

from mk2dbus.cli import main

sys.exit(main())
