"""One run of the model, as others see it who wait for it or end it."""

from __future__ import annotations

import onnxruntime as ort


class Run:
    """One run of the model, which another thread may stop; so many callers wait for it."""

    def __init__(self, waiting: int = 1) -> None:
        self.options = ort.RunOptions()
        self.stopped = False
        self.shrinks = False
        self._waiting = waiting

    def leave(self) -> None:
        """One caller waits no more; the last one stops the run."""
        self._waiting -= 1
        if self._waiting <= 0:
            self.stop()

    def shrink_after(self) -> None:
        """Give the memory that this run needs back to the system, rather than keep it for the next one."""
        self.shrinks = True
        self.options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def stop(self) -> None:
        """Ask the run to end; onnxruntime looks between two operators."""
        self.stopped = True
        self.options.terminate = True
