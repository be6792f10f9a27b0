"""``python -m slipway.models`` is ``slipway-model``."""

from slipway.models.main import main

raise SystemExit(main())
