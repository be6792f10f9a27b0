"""Routers that belong together: what they were told, what they may still do, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.reasons import Reason
from slipway.core.observed import Fault, ObservedTraffic
from slipway.core.traffic.envoy.readback import RouterState
from slipway.core.traffic.envoy.routes import Route, next_state
from slipway.core.traffic.routed import traffic_of

#: How long a listener outlives the Service that led to it: every node has to learn the new endpoints first.
LEAVING = timedelta(seconds=15)
#: How long a route outlives the last connection of its listener: a router may take up its files late.
LATE = timedelta(seconds=5)


@dataclass
class Group:
    """What is remembered of them; all of it can be had again."""

    looked: bool = False
    #: By name of the pod; those that could not be read are missing.
    states: dict[str, RouterState] = field(default_factory=dict)
    routers: tuple[str, ...] = ()
    #: The lives of their counters, by name.
    lives: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    #: What writing their objects met with last.
    unwritten: Fault | None = None
    #: What the routers were told last, by name of the ModelDeployment.
    told: dict[str, Route] = field(default_factory=dict)
    #: Everything that a router may still do, by name: what was told since all were last seen to follow.
    possible: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    #: When the routers were told something that not all were seen to do yet.
    asked: dict[str, datetime] = field(default_factory=dict)
    #: When a route was first found to be wanted no more.
    left: dict[str, datetime] = field(default_factory=dict)
    #: What each router pod was last made to read, how often, and when.
    touched: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def next(
        self,
        targets: Mapping[str, Route],
        kept: Set[str],
        drain: timedelta,
        now: datetime,
        moved: Callable[[float], None],
    ) -> list[Route]:
        """The next state of every route, safe whichever of the earlier ones each router is in.

        Args:
            targets: what each route has to come to.
            kept: names of those that are here to stay; others do until every client has left.
            drain: how long a listener that closes waits for its connections.
            now: the time, with a time zone.
            moved: is told how many seconds every router took to do something new.
        """
        last = LEAVING + drain + LATE
        routes = []
        for name, wanted in sorted(targets.items()):
            target = replace(wanted, leaving=False)
            before = self.told.get(name)
            if name in kept:
                self.left.pop(name, None)
            else:
                since = now - self.left.setdefault(name, now)
                if before is None or since >= last:
                    continue
                target = replace(target, leaving=before.leaving or since >= LEAVING)
            possible = self.possible.get(name, ())
            if before is None and self._serves(name):
                # What they were told is lost; to close the route would turn away those whom it serves.
                before = target if self.follows(target) else replace(target, weight=0, mirror_percent=0)
                possible = (before,)
                if not self.follows(before):
                    self.asked.setdefault(name, now)
                    self.possible[name] = possible
                    routes.append(before)
                    continue
            if before is not None and self.follows(before):
                possible = (before,)
                if (asked := self.asked.pop(name, None)) is not None and self.routers:
                    moved((now - asked).total_seconds())
            elif before is not None and before not in possible:
                possible = (*possible, before)
            found = next_state(possible, target)
            if found != before:
                self.asked.setdefault(name, now)
            self.possible[name] = possible if found in possible else (*possible, found)
            routes.append(found)
        there = {route.name for route in routes}
        memories: tuple[dict[str, Any], ...] = (self.possible, self.left, self.asked)
        for memory in memories:
            for name in set(memory) - there:
                del memory[name]
        return routes

    def follows(self, route: Route) -> bool:
        """Whether every router that stays does this."""
        return all(name in self.states and self.states[name].does(route) for name in self.routers)

    def _serves(self, name: str) -> bool:
        """Whether a router that stays was seen to answer for a ModelDeployment."""
        living = (state for pod, state in self.states.items() if pod in self.routers)
        return any(
            name in state.listeners and name in state.routes and not state.routes[name].closed
            for state in living
        )

    def traffic(self, name: str) -> ObservedTraffic:
        """What these routers were seen to do for a ModelDeployment."""
        living = [state for pod, state in self.states.items() if pod in self.routers]
        leaving = [state for pod, state in self.states.items() if pod not in self.routers]
        traffic = traffic_of(name, self.told.get(name), len(self.routers), living, leaving)
        refused = self.refused.get(name)
        return replace(traffic, fault=Fault(Reason.ROUTER_FULL, refused) if refused else self.fault)
