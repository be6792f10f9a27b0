"""Grafana's dashboards as JSON: `python -m slipway.observability.dashboards [--check]`.

Built with Grafana's own typed builders, which are needed here only: the JSON is committed and in the chart.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from grafana_foundation_sdk.builders import barchart, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from slipway.api.generated import write_or_check
from slipway.observability.boards import BOARDS
from slipway.observability.panels import Board, Panel, PanelKind, Query, Variable

FOLDER = "charts/slipway/dashboards"
#: The reader chooses among the Prometheus servers that Grafana knows.
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT, _NUMBER_HEIGHT = 8, 4
_BUILDERS: dict[PanelKind, type[Any]] = {
    PanelKind.LINES: timeseries.Panel,
    PanelKind.NUMBER: stat.Panel,
    PanelKind.BARS: barchart.Panel,
    PanelKind.TABLE: table.Panel,
}


def files() -> dict[str, str]:
    """The generated files and their text."""
    return {f"{FOLDER}/{board.uid}.json": _text(board) for board in BOARDS}


def _text(board: Board) -> str:
    made = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["slipway"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    for title, panels in board.rows.items():
        made = made.with_row(builders.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel))
    return (
        json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(made.build())), indent=1, sort_keys=True)
        + "\n"
    )


def _variable(variable: Variable) -> builders.QueryVariable:
    return (
        builders.QueryVariable(variable.name)
        .label(variable.name.capitalize())
        .query(f"label_values({variable.series}, {variable.label})")
        .datasource(_SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _panel(panel: Panel) -> Any:
    made: Any = _BUILDERS[panel.kind]()
    made = made.title(panel.title).unit(panel.unit).datasource(_SOURCE).span(panel.width)
    made = made.height(_NUMBER_HEIGHT if panel.kind is PanelKind.NUMBER else _HEIGHT)
    if panel.description:
        made = made.description(panel.description)
    for position, query in enumerate(panel.queries):
        made = made.with_target(_target(panel.kind, query, _letter(position)))
    if panel.kind is PanelKind.LINES:
        legend = VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
        made = made.legend(legend.placement(LegendPlacement.BOTTOM)).fill_opacity(8).show_points("never")
    if panel.kind is PanelKind.NUMBER:
        made = made.graph_mode(BigValueGraphMode.NONE).reduce_options(
            ReduceDataOptions().calcs(["lastNotNull"])
        )
    if panel.kind is PanelKind.BARS:
        # One bar a bin and query, side by side; a table's columns have no legend of their own.
        names = {f"Value #{_letter(place)}": query.legend for place, query in enumerate(panel.queries)}
        columns = {"excludeByName": {"Time": True}, "renameByName": names}
        made = made.with_transformation(DataTransformerConfig(id_val="merge", options={}))
        made = made.with_transformation(DataTransformerConfig(id_val="organize", options=columns))
        made = made.x_field("bin").fill_opacity(80).legend(VizLegendOptions().show_legend(True))
    if panel.kind is PanelKind.TABLE:
        columns = {"excludeByName": {"Time": True, "Value": True}}
        made = made.show_header(True)
        made = made.with_transformation(DataTransformerConfig(id_val="organize", options=columns))
    return made


def _letter(position: int) -> str:
    return chr(ord("A") + position)


def _target(kind: PanelKind, query: Query, name: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(name).datasource(_SOURCE)
    if query.legend:
        made = made.legend_format(query.legend)
    if kind in (PanelKind.BARS, PanelKind.TABLE):
        return made.instant().format(PromQueryFormat.TABLE)
    return made.instant() if kind is PanelKind.NUMBER else made.range()


def main() -> int:
    """Write the dashboards or, with ``--check``, compare them; see :func:`write_or_check`."""
    return write_or_check("slipway.observability.dashboards", files())


if __name__ == "__main__":
    sys.exit(main())
