"""From an event loop to House and back: jobs compute on threads, web frameworks await. Knows no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from demos.replies import expected
from pipelines.core.errors import Cancelled
from pipelines.core.streaming import Done, Event, Job, Stream
from pipelines.house import House

TICK = 1.0  # seconds after which a silent job lets its reader look at the client
_READERS = 256

Gone = Callable[[], Awaitable[bool]]


class Bridge:
    """Starts jobs and reads them without holding up the loop."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="bridge")

    async def stream(self, task: str, raw: dict[str, Any], visitor: str) -> Stream:
        """A started job; what House refuses is raised here. Files are decoded meanwhile, hence the thread."""
        return await self._begin(lambda: self.house.stream(task, raw, visitor))

    async def start(self, task: str, compute: Callable[[Job], Any], visitor: str) -> Stream:
        """Other work of a task, under the same limits."""
        return await self._begin(lambda: self.house.start(task, lambda: compute, visitor))

    async def _begin(self, start: Callable[[], Stream]) -> Stream:
        begun = self._pool.submit(start)
        try:
            return await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_close_begun)
            raise

    async def events(self, stream: Stream, gone: Gone | None = None) -> AsyncIterator[Event | None]:
        """The job's events, and None at least every TICK; leaving the loop, or a client that went away, stops it.

        Raises DemoError only: what else goes wrong in a job is logged under a reference.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                coming = loop.run_in_executor(self._pool, next, stream, None)
                while not (await asyncio.wait({coming}, timeout=TICK))[0]:
                    if gone is not None and await gone():
                        return
                    yield None
                if (failed := coming.exception()) is not None:
                    raise expected(failed) from failed
                event = coming.result()
                if event is None or (gone is not None and await gone()):
                    return
                yield event
        finally:
            stream.close()

    async def result(self, stream: Stream, gone: Gone | None = None) -> Any:
        """What the job returns; raises Cancelled for a client that went away."""
        async for event in self.events(stream, gone):
            if isinstance(event, Done):
                return event.result
        raise Cancelled("cancelled")


def _close_begun(begun: Future[Stream]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().close()
