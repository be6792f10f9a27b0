"""What a cell shows beside a handle itself: a report's page, and pictures that follow each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from slipway.core.resource import Resource
from slipway.notebook.card import html_of, text_of


class Report:
    """A page of HTML; in Jupyter it shows itself in a frame of its own, so that its style stays there."""

    def __init__(self, html: str) -> None:
        self.html = html

    def save(self, path: str | Path) -> Path:
        """Write the page; gives the path.

        Raises:
            OSError: where it cannot be written.
        """
        Path(path).write_text(self.html)
        return Path(path)

    def __repr__(self) -> str:
        return f"<report of {len(self.html)} characters; save(path) writes it>"

    def _repr_html_(self) -> str:
        style = "width:100%;height:40em;border:1px solid rgba(128,128,128,0.4)"
        return f'<iframe sandbox srcdoc="{escape(self.html)}" style="{style}"></iframe>'


class Picture:
    """A card as it was at one time."""

    def __init__(self, resource: Resource, now: datetime) -> None:
        self._resource, self._now = resource, now

    def __repr__(self) -> str:
        return text_of(self._resource, self._now)

    def _repr_html_(self) -> str:
        return html_of(self._resource, self._now)


class Display:
    """Shows pictures in one place of a notebook, and one below the other elsewhere."""

    def __init__(self) -> None:
        self._update: Callable[[Any], None] | None = None

    def show(self, picture: Picture) -> None:
        if self._update is not None:
            self._update(picture)
            return
        try:
            from IPython.core.getipython import get_ipython
            from IPython.display import display
        except ImportError:
            print(repr(picture), flush=True)
            return
        if get_ipython() is None:
            print(repr(picture), flush=True)
            return
        handle = display(picture, display_id=True)  # type: ignore[no-untyped-call]
        self._update = handle.update
