from collections.abc import Sequence
from pathlib import Path
from e2e.cluster.settings import Settings
def kind_is_usable() -> bool:
    return False
class KindProvider:
    kind = "kind"
    def __init__(self, settings: Settings) -> None: ...
