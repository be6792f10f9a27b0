"""Routers that belong together: what they were told, what they may still do, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.reasons import Reason
from slipway.core.endpoint import ready_pods
from slipway.core.observed import Fault, Manifest, ObservedTraffic
from slipway.core.pod_counters import life_of
from slipway.core.traffic.envoy.objects import CONTAINER
from slipway.core.traffic.envoy.readback import RouterState
from slipway.core.traffic.envoy.routes import Route, next_state
from slipway.core.traffic.routed import traffic_of
from slipway.engine.observers.routers import RouterReading

#: How long a listener outlives the Service that led to it: every node has to learn the new endpoints first.
LEAVING = timedelta(seconds=15)
#: How long a route outlives the last connection of its listener: a router may take up its files late.
LATE = timedelta(seconds=5)


@dataclass
class Group:
    """Soft state of one group."""

    #: Whether each of them was tried to be read, and the number of what they were seen to do.
    seen: bool = False
    number: int = 0
    counted_at: datetime | None = None
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
    #: When they were told something else of a route, where nothing that they did later was read yet.
    unseen: dict[str, datetime] = field(default_factory=dict)
    #: Everything that a router may still do, by name: what was told since all were last seen to follow.
    possible: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    #: When the routers were told something that not all were seen to do yet.
    asked: dict[str, datetime] = field(default_factory=dict)
    #: When a route was first found to be wanted no more.
    left: dict[str, datetime] = field(default_factory=dict)
    #: What each router pod was last made to read, how often, and when.
    touched: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, children: Iterable[Manifest], reading: RouterReading | None) -> bool:
        """Take in what was read of them; False while there is one that nobody has tried to read yet."""
        alive = ready_pods(children)
        lives = {str(pod["metadata"]["name"]): life_of(pod, CONTAINER) for pod in alive}
        read = reading.states if reading is not None else {}
        if not set(lives.values()) <= read.keys():
            return False
        states = ((name, read[life]) for name, life in lives.items())
        self.states = {name: state for name, state in states if state is not None}
        self.lives = lives
        if reading is not None:
            self.number, self.counted_at = reading.number, reading.counted_at
            self.unseen = {name: at for name, at in self.unseen.items() if at >= reading.at}
        self.seen = True
        self.routers = tuple(
            str(pod["metadata"]["name"]) for pod in alive if not pod["metadata"].get("deletionTimestamp")
        )
        self.touched = {name: what for name, what in self.touched.items() if name in self.routers}
        return True

    def tell(self, routes: Iterable[Route], now: datetime) -> None:
        """Note what the routers are told now."""
        told = {route.name: route for route in routes}
        changed = {name for name in told.keys() | self.told.keys() if told.get(name) != self.told.get(name)}
        self.unseen |= dict.fromkeys(changed & told.keys(), now)
        self.told = told

    @property
    def wanted_after(self) -> datetime | None:
        """A reading later than that is wanted, or None."""
        return max(self.unseen.values(), default=None)

    def living(self, newest: RouterReading | None, after: datetime) -> dict[str, RouterState | None]:
        """What those that stay do and count, by life; None for those of which it is not known as of a time.

        As of the newest reading, or of the one that was taken in where they do something else meanwhile.
        """
        states: Mapping[str, RouterState | None]
        states, at = {self.lives[name]: state for name, state in self.states.items()}, self.counted_at
        if newest is not None and newest.number == self.number:
            states, at = newest.states, newest.counted_at
        known = at is not None and at >= after
        return {self.lives[name]: states.get(self.lives[name]) if known else None for name in self.routers}

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
        memories: tuple[dict[str, Any], ...] = (self.possible, self.left, self.asked, self.unseen)
        for memory in memories:
            for name in set(memory) - there:
                del memory[name]
        return routes

    def follows(self, route: Route) -> bool:
        """Whether every router that stays was seen to do this since they were told anything else."""
        does = (name in self.states and self.states[name].does(route) for name in self.routers)
        return not self.routers or (route.name not in self.unseen and all(does))

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
        if name in self.unseen:
            # What is known of them is older than what they were told.
            traffic = replace(traffic, synced_routers=0, arrived=False)
        refused = self.refused.get(name)
        return replace(traffic, fault=Fault(Reason.ROUTER_FULL, refused) if refused else self.fault)
