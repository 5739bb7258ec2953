"""python -m detector."""

from detector.cli.main import main

raise SystemExit(main())
