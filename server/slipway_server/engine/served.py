"""Inference from the bytes of requests to those of responses; knows no HTTP and no event loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from slipway_server.call.call import Call, Outputs
from slipway_server.engine.crashes import Crashes
from slipway_server.engine.light import LightDecoder
from slipway_server.engine.outputs import OutputBook
from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.protocol.decode import decode
from slipway_server.protocol.encode import encode
from slipway_server.protocol.tensors import Array, InferRequest
from slipway_server.runtime.guard import CrashError
from slipway_server.runtime.model import Model, ModelInputError, ModelOutputError, StoppedError, plain
from slipway_server.runtime.profile import Profile
from slipway_server.runtime.refused import Symbols, no_memory, refused
from slipway_server.runtime.run import Run
from slipway_server.runtime.tryout import Tryout

if TYPE_CHECKING:
    from slipway_server.feedback.witness import Witness
    from slipway_server.monitoring.answers import Recorder
    from slipway_server.monitoring.counting import Monitor
    from slipway_server.monitoring.suspects import SuspectCounter

log = logging.getLogger(__name__)

#: JSON grows up to thirtyfold when parsed. From this size on one request is parsed at a time.
_LARGE_BYTES = 1024 * 1024
#: From this size of its inputs on, a run gives its memory back when it is done.
_SHRINK_BYTES = 16 * 1024 * 1024


class Served:
    """A model under the name and version by which clients know it."""

    def __init__(self, model: Model, name: str, version: str, profile: Profile | None = None) -> None:
        self.model = model
        self.name = name
        self.version = version
        self.profile = profile or Profile()
        self._large = threading.Lock()
        self._book = OutputBook(model, name, version)
        self._light = self._reader(self.profile)
        #: Where the model has yet to be measured, with what clients send.
        self.tryout: Tryout | None = None
        #: What is done about calls that end the process that runs them.
        self.crashes = Crashes()
        self._specs = list(model.inputs.values())
        #: Told of what was asked and answered.
        self.monitor: Monitor | None = None
        #: Shown every batch once its answers are written.
        self.witness: Witness | None = None
        #: Counts rows that may be a search for another answer.
        self.suspects: SuspectCounter | None = None
        #: Remembers answers while somebody asks for them.
        self.recorder: Recorder | None = None
        #: For joining, in the model's order: name, data type, shape of a row, and whether rows are objects.
        self._columns = [
            (spec.name, spec.datatype.dtype, (spec.shape or ())[1:], spec.datatype.dtype.hasobject)
            for spec in self._specs
        ]
        #: Told of a call whose own wishes brought its deadline forward; on the thread that reads it.
        self.on_deadline: Callable[[Call], None] = lambda _: None

    def adopt(self, profile: Profile) -> None:
        """Run the model as its new profile says."""
        self._light = self._reader(profile)
        self.profile = profile
        self.tryout = None

    def _reader(self, profile: Profile) -> LightDecoder:
        """Reads nothing where requests have yet to measure the model, as the ordinary decoder reads them."""
        return LightDecoder({} if profile.untried else self.model.inputs, self._book)

    def answer(self, calls: Sequence[Call], run: Run, inline_rows: int | None = None) -> list[Call]:
        """Set ``content`` or ``error`` of each call, running those together that may be.

        With ``inline_rows``, calls of more rows are read, but left to be run elsewhere, and returned.
        """
        if len(calls) == 1:
            return self._answer_one(calls[0], run, inline_rows)
        groups: dict[Outputs, list[Call]] = {}
        alone: list[Call] = []
        later: list[Call] = []
        for call in calls:
            try:
                if call.inputs is None and (call.codec is not None or not self._light.read(call)):
                    self._read(call)
            except Exception as error:
                fail(call, error)
                continue
            if inline_rows is not None and call.rows > inline_rows:
                later.append(call)
            elif call.outputs is None or not self.profile.batches:
                alone.append(call)
            else:
                groups.setdefault(call.outputs, []).append(call)
        for outputs, members in groups.items():
            for batch in _batches(members, self.profile.max_rows):
                self._run_together(outputs, batch, run)
        for call in alone:
            self._run_one(call, run)
        return later

    def _answer_one(self, call: Call, run: Run, inline_rows: int | None) -> list[Call]:
        try:
            if call.inputs is None and (call.codec is not None or not self._light.read(call)):
                self._read(call)
        except Exception as error:
            fail(call, error)
            return []
        if inline_rows is not None and call.rows > inline_rows:
            return [call]
        self._run_one(call, run)
        return []

    def _run_one(self, call: Call, run: Run) -> None:
        if call.outputs is None:
            self._run_alone(call, run)
        else:
            self._run_together(call.outputs, [call], run)

    def _read(self, call: Call) -> None:
        """The ordinary way: every check, with words for what is wrong."""
        if call.gzip:
            from slipway_server.call.body import inflate

            call.body, call.gzip = inflate(call.body, call.limit), False
        json_bytes = len(call.body) if call.header_length is None else call.header_length
        with self._large if json_bytes >= _LARGE_BYTES else nullcontext():
            if call.codec is not None:
                request = call.codec.decode(call.body, call.header_length, self.model)
            else:
                request = decode(
                    call.body,
                    call.header_length,
                    self.model.taken,
                    self.model.output_names,
                    self.model.unsupported,
                )
        call.id, call.rows, call.request = request.id, request.rows, request
        arrays = [request.inputs[spec.name] for spec in self._specs]
        call.inputs = arrays
        if request.timeout_microseconds is not None:
            self._hurry(call, request.timeout_microseconds / 1e6)
        if not (self.profile.batches or self._light.reads) or len(request.inputs) != len(arrays):
            return
        if all(a.size and a.ndim and len(a) == request.rows for a in arrays):
            outputs = self._book.of(request.outputs)
            told = self.witness is not None and self.witness.is_told_by(request.parameters)
            if call.codec is None and not told:
                self._light.remember(call, request, outputs)
            if self.profile.batches:
                call.outputs = outputs

    def _hurry(self, call: Call, seconds: float) -> None:
        deadline = call.began + seconds
        if deadline < call.deadline:
            call.deadline = deadline
            if deadline <= perf_counter():
                raise StoppedError
            self.on_deadline(call)

    def _run_together(self, outputs: Outputs, calls: list[Call], run: Run) -> None:
        inputs: Mapping[str, Array] = {}
        try:
            if self.model.guard is not None and self.crashes:
                calls = self._unsuspected(calls)
                if not calls:
                    return
            inputs = self._join(calls)
            if self.monitor is not None and self.monitor.refusals(inputs):
                calls = self._refuse(calls)
                if not calls:
                    return
                inputs = self._join(calls)
            answers = self.model.run_raw(inputs, outputs.names, run)
            outputs.write(calls, answers)
            if self.witness is not None:
                self.witness.see(calls, inputs, outputs.names, answers)
            if self.recorder is not None and self.recorder.wanted:
                self.recorder.see(calls, outputs.names, answers)
        except Exception as error:
            if len(calls) == 1 or isinstance(error, StoppedError):
                if isinstance(error, CrashError):
                    error = self.crashes.ended(calls[0], inputs, error)
                for call in calls:
                    fail(call, error, self.model.symbols)
                return
            # One request's values may be what the model refuses; the others must not suffer for it.
            for call in calls:
                self._run_together(outputs, [call], run)
            return
        if self.monitor is not None:
            cohorts = [call.cohort() for call in calls] if self.monitor.cohorts else ()
            self.monitor.add(inputs, outputs.names, answers, [call.rows for call in calls], cohorts)
        if self.suspects is not None:
            self.suspects.add(calls, inputs, outputs.names, answers)

    def _unsuspected(self, calls: list[Call]) -> list[Call]:
        """The calls that are not known to end their process; the others are told so."""
        good = []
        for call in calls:
            try:
                self.crashes.check(call, self._join([call]))
            except RequestError as error:
                fail(call, error)
            else:
                good.append(call)
        return good

    def _refuse(self, calls: list[Call]) -> list[Call]:
        """The calls that keep the rules of the inputs; the others are told what is wrong."""
        good = []
        for call in calls:
            error = (
                self.monitor.refuse(self._join([call]), call.cohort()) if self.monitor is not None else None
            )
            if error is None:
                good.append(call)
            else:
                fail(call, error)
        return good

    def _join(self, calls: list[Call]) -> dict[str, Array]:
        if len(calls) == 1:
            return self._own_memory(calls[0])
        total = sum(call.rows for call in calls)
        joined: dict[str, Array] = {}
        for position, (name, dtype, row, objects) in enumerate(self._columns):
            parts = [call.inputs[position] for call in calls if call.inputs is not None]
            if objects:
                joined[name] = np.concatenate(parts)
            else:
                data = b"".join(parts)  # type: ignore[arg-type]
                joined[name] = np.frombuffer(data, dtype).reshape((total, *row))
        return joined

    def _own_memory(self, call: Call) -> dict[str, Array]:
        """The inputs of one call as arrays over the memory that it came in, where that can be."""
        joined: dict[str, Array] = {}
        for data, (name, dtype, row, _) in zip(call.inputs or (), self._columns, strict=True):
            if isinstance(data, np.ndarray):
                joined[name] = data
                continue
            array = np.frombuffer(data, dtype).reshape((call.rows, *row))
            # onnxruntime reads the memory in place: it has to be aligned, which a slice of a body may not be,
            # while bytes of their own always are.
            joined[name] = array if type(data) is bytes or array.flags.aligned else array.copy()
        return joined

    def _run_alone(self, call: Call, run: Run) -> None:
        request: InferRequest | None = call.request
        try:
            if request is None:
                raise RuntimeError("a call that was not read")
            sizes = [array.nbytes for array in request.inputs.values()]
            if sum(sizes) >= _SHRINK_BYTES:
                run.shrink_after()
            if 0 in sizes:
                self.model.empties.check(request.inputs)
            if self.model.guard is not None and self.crashes:
                self.crashes.check(call, request.inputs)
            refused = None
            if self.monitor is not None:
                refused = self.monitor.refuse(request.inputs, call.cohort())
            if refused is not None:
                raise refused
            names = [choice.name for choice in request.outputs]
            answers = self.model.run_raw(request.inputs, names, run)
            tensors = [self.model.tensor(*pair) for pair in zip(names, answers, strict=True)]
            if self.tryout is not None:
                self.tryout.add(request.inputs)
            if call.codec is not None:
                call.content, call.header_length = call.codec.encode(request, tensors)
            else:
                call.content, call.header_length = encode(request, self.name, self.version, tensors)
            if self.monitor is not None:
                arrays = [tensor.array for tensor in tensors]
                self.monitor.add(request.inputs, names, arrays, [request.rows], [call.cohort()])
            if self.witness is not None:
                self.witness.see([call], request.inputs, names, answers)
            if self.suspects is not None:
                self.suspects.add([call], request.inputs, names, answers)
            if self.recorder is not None and self.recorder.wanted:
                self.recorder.see([call], names, answers)
        except Exception as error:
            if isinstance(error, CrashError) and request is not None:
                error = self.crashes.ended(call, request.inputs, error)
            fail(call, error, self.model.symbols)


def fail(call: Call, error: Exception, symbols: Symbols | None = None) -> None:
    """Set the call's error as the client is to see it; anything unforeseen is logged and stays as it is."""
    if isinstance(error, RequestError):
        # The traceback's frames hold the parsed document, which has to go before the next one comes.
        call.error = error.with_traceback(None)
    elif isinstance(error, ModelInputError):
        inputs = {} if call.request is None else call.request.inputs
        call.error = refused(plain(str(error)), inputs, symbols or {})
    elif isinstance(error, ModelOutputError):
        call.error = RequestError(500, Reason.MODEL_OUTPUT, f"the model is at fault: {error}")
    elif isinstance(error, StoppedError):
        call.error = not_now(Reason.DEADLINE, "the request took longer than the server allows")
    elif isinstance(error, MemoryError):
        call.error = no_memory(error)
    else:
        log.error("an inference failed unexpectedly", exc_info=error)
        call.error = error


def _batches(calls: list[Call], max_rows: int) -> list[list[Call]]:
    if len(calls) <= max_rows and sum(call.rows for call in calls) <= max_rows:
        return [calls]
    batches: list[list[Call]] = []
    rows = max_rows
    for call in calls:
        if rows + call.rows > max_rows:
            batches.append([])
            rows = 0
        batches[-1].append(call)
        rows += call.rows
    return batches
