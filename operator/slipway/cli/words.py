"""Words that several commands and the reference page say."""

from __future__ import annotations

EXIT_CODES = (
    "Exit codes: 0 it worked; 1 it did not, and why is on standard error; 2 the arguments are wrong; "
    "3 status --timeout passed, plan --detailed-exitcode found a change, or doctor something missing; "
    "4 doctor found nothing missing, but could not see all; 130 interrupted."
)
