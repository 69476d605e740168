"""`python -m geossl`, the same as `geossl`."""

import sys

from geossl.cli import main

sys.exit(main())
