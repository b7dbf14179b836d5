import sys

from moe_asr.cli.main import main

sys.exit(main())
