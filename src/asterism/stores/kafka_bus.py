"""The event bus on Kafka: partitioned by visitor, written by all in-sync replicas, read at least once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, ClassVar, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka import Consumer as Client

from asterism.core.errors import OverloadedError, StorageError, StoreUnavailableError
from asterism.stores.event_bus import Delivery, Receipt
from asterism.stores.event_log import Event, Forget, decode_record, encode_event, encode_forget
from asterism.stores.reaching import ONCE, Reach
from asterism.stores.urls import StoreUrl
from asterism.stores.user_state import Offset, Visitor, key_of

logger = logging.getLogger(__name__)

_PORT: Final = 9092
_REASON: Final = "reason"
#: Of what is buried so much is kept: with its headers a larger one may be more than a topic takes, and would be in the
#: way of all that comes after it. Whole it stays where it was, at the offset that the headers tell.
_MOST_BURIED_BYTES: Final = 512 << 10


class KafkaEventBus:
    """Implements `EventBus`: `kafka://host:9092,host:9092/feedback`; what is buried goes to `feedback.dead`."""

    knows_ids: ClassVar[bool] = False

    def __init__(
        self, url: str, *, timeout_seconds: float = 10.0, session_seconds: float = 10.0, max_pending: int = 100_000
    ) -> None:
        """Nothing is asked yet; raises `ConfigError` on a malformed URL.

        An event is acknowledged within `timeout_seconds` or fails; a group takes over from a member that
        was silent for `session_seconds`.
        """
        self._place = Place(url, timeout_seconds, session_seconds)
        self._producer = self._place.producer(max_pending)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-bus", daemon=True)
        self._thread.start()

    def publish(self, events: Sequence[Event]) -> Future[list[Receipt]]:
        """See `EventBus.publish`; where some of several events fail, the others may be there all the same."""
        visitors = (Visitor(one.user_id, one.session_id) for one in events)
        return self._produce([(encode_event(one), _key(who)) for one, who in zip(events, visitors, strict=True)])

    def forget(self, forget: Forget) -> Future[Any]:
        """See `EventBus.forget`; in the partition of the user's events, which leave with the topic's retention."""
        return self._produce([(encode_forget(forget), _key(Visitor(forget.user_id)))])

    def _produce(self, messages: Sequence[tuple[bytes, bytes]]) -> Future[list[Receipt]]:
        if self._closed.is_set():
            raise StorageError("the bus is closed; the service is shutting down")
        written = _Written(len(messages), self._place)
        for place, (value, key) in enumerate(messages):
            tell = partial(written.tell, place)
            try:
                self._producer.produce(self._place.topic, value, key, on_delivery=tell)
            except BufferError:
                written.fail(OverloadedError("too many events wait for Kafka already; send this again later"))
                break
            except KafkaException as error:
                written.fail(self._place.reach.refused(error))
                break
        return written.future

    def consumer(self, group: str) -> KafkaConsumer:
        """See `EventBus.consumer`."""
        return KafkaConsumer(self._place, group)

    def version(self) -> str:
        """How many brokers there are; raises `StoreUnavailableError`."""
        found = self._place.reach.call(lambda: self._producer.list_topics(timeout=self._place.timeout_seconds))
        return f"{len(found.brokers)} brokers"

    def close(self) -> None:
        """See `EventBus.close`; waits for at most the timeout, and what is not acknowledged then has failed."""
        self._closed.set()
        self._thread.join()
        left = self._producer.flush(self._place.timeout_seconds)
        if left:
            self._producer.purge()
            self._producer.poll(0)  # tells those who wait for it
            logger.warning("Kafka at %s: %d events were not acknowledged", self._place.reach.where, left)

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.1)


class Place:
    """Where the brokers are, which topic, and how long anything may take."""

    def __init__(self, url: str, timeout_seconds: float, session_seconds: float = 10.0) -> None:
        parsed = StoreUrl.parse(url)
        parsed.only()
        servers, _, topic = parsed.rest.partition("/")
        self.servers = ",".join(
            f"{host}:{port}" for host, port in (_address(one, parsed) for one in servers.split(","))
        )
        self.topic = topic or "asterism.feedback"
        self.dead_topic = f"{self.topic}.dead"
        self.timeout_seconds = timeout_seconds
        self.session_seconds = session_seconds
        self.reach = Reach("Kafka", parsed.shown, (KafkaException,), tries=ONCE)

    def producer(self, max_pending: int = 1_000) -> Producer:
        """One that repeats what failed without doubling or reordering it, until the timeout."""
        return Producer(
            {
                **self.common(),
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": int(self.timeout_seconds * 1000),
                "request.timeout.ms": max(1, int(self.timeout_seconds * 500)),
                "queue.buffering.max.messages": max_pending,
            }
        )

    def common(self) -> dict[str, Any]:
        """What producers and consumers share; what the library would print goes to the program's log."""
        milliseconds = int(self.timeout_seconds * 1000)
        return {
            "bootstrap.servers": self.servers,
            "client.id": "asterism",
            "socket.timeout.ms": max(10, milliseconds),
            "socket.connection.setup.timeout.ms": max(1000, milliseconds),
            "reconnect.backoff.max.ms": 2000,
            "logger": logger,
            "log_level": 2,  # what it would repeat every second, we tell once, as a sentence
        }


class KafkaConsumer:
    """Implements `Consumer`; a group's members share the partitions, and take over from one that died."""

    def __init__(self, place: Place, group: str) -> None:
        self._place = place
        self._silence: KafkaError | None = None
        self._client = Client(
            {
                **place.common(),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(place.session_seconds * 1000),
                "heartbeat.interval.ms": int(place.session_seconds * 300),
                "error_cb": self._on_error,
                "allow.auto.create.topics": True,
                "fetch.wait.max.ms": 100,  # some brokers answer no sooner, also when an event arrives meanwhile
            }
        )
        self._given: dict[tuple[str, int], int] = {}
        self._dead: Producer | None = None
        self._client.subscribe([place.topic], on_revoke=self._on_lost, on_lost=self._on_lost)

    def poll(self, count: int, timeout_seconds: float) -> list[Delivery]:
        """See `Consumer.poll`; raises `StoreUnavailableError` where no broker can be reached."""
        deadline = time.monotonic() + timeout_seconds
        batch: list[Delivery] = []
        messages = self._consume(count, timeout_seconds)
        while not batch:
            batch = [delivery for message in messages if (delivery := self._delivery(message)) is not None]
            left = deadline - time.monotonic()
            if batch or left <= 0:
                return batch
            messages = self._consume(count, left)
        return batch

    def commit(self) -> None:
        """See `Consumer.commit`."""
        if not self._given:
            return
        offsets = [TopicPartition(*place, offset) for place, offset in self._given.items()]
        try:
            for one in self._client.commit(offsets=offsets, asynchronous=False) or ():
                if one.error is not None:
                    raise self._place.reach.unavailable(one.error)
        except KafkaException as error:
            raise self._place.reach.unavailable(error) from error
        self._given.clear()

    def bury(self, delivery: Delivery, reason: str) -> None:
        """See `Consumer.bury`; raises `StoreUnavailableError` where the dead-letter topic does not take it."""
        if self._dead is None:
            self._dead = self._place.producer()
        told: list[KafkaError | None] = []
        headers: list[tuple[str, str | bytes | None]] = [
            (_REASON, reason[:10_000]),
            ("partition", delivery.offset.partition),
            ("offset", str(delivery.offset.number)),
            ("bytes", str(len(delivery.raw))),
        ]
        part = delivery.raw[:_MOST_BURIED_BYTES]
        self._dead.produce(
            self._place.dead_topic, part, headers=headers, on_delivery=lambda error, _: told.append(error)
        )
        self._dead.flush(self._place.timeout_seconds + 1)
        if not told or told[0] is not None:
            raise self._place.reach.unavailable(told[0] if told else "no answer in time")

    def lag(self) -> int:
        """See `Consumer.lag`; as of the last fetch, so that no broker is asked."""
        behind = 0
        for one in self._client.position(self._client.assignment()):
            _, end = self._client.get_watermark_offsets(one, cached=True)
            behind += max(0, end - one.offset) if one.offset >= 0 else 0
        return behind

    def close(self) -> None:
        """See `Consumer.close`; also of the dead letters' own producer."""
        self._client.close()

    def _consume(self, count: int, timeout_seconds: float) -> list[Message]:
        try:
            messages = self._client.consume(count, timeout_seconds)
        except KafkaException as error:
            raise self._place.reach.unavailable(error) from error
        silence, self._silence = self._silence, None
        if silence is not None and not messages:
            raise self._place.reach.unavailable(silence)
        return messages

    def _on_error(self, error: KafkaError) -> None:
        """The library mends all others by itself."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._silence = error

    def _delivery(self, message: Message) -> Delivery | None:
        error = message.error()
        if error is not None:
            logger.info("Kafka at %s: %s", self._place.reach.where, error)
            return None
        offset = _offset(message)
        self._given[str(message.topic()), int(message.partition() or 0)] = offset.number + 1
        raw = message.value() or b""
        if not raw:
            return None  # a tombstone
        try:
            record = decode_record(raw)
        except StorageError:
            record = None
        if isinstance(record, Forget):
            return Delivery(None, offset, raw, record)
        return Delivery(record, offset, raw, published_at=_published_at(message))

    def _on_lost(self, _: Client, partitions: list[TopicPartition]) -> None:
        """Another member has them now, and goes on from what was committed."""
        for one in partitions:
            self._given.pop((one.topic, one.partition), None)


class _Written:
    """Waits for the acknowledgements of all events of one call."""

    def __init__(self, count: int, place: Place) -> None:
        self.future: Future[list[Receipt]] = Future()
        self._receipts = [Receipt(True, None)] * count
        self._left = count
        self._place = place
        self._lock = threading.Lock()
        if not count:
            self.future.set_result([])

    def tell(self, position: int, error: KafkaError | None, message: Message) -> None:
        """Called by the library for each event."""
        if error is not None:
            self.fail(self._place.reach.unavailable(error))
            return
        with self._lock:
            self._receipts[position] = Receipt(True, _offset(message))
            self._left -= 1
            if self._left == 0 and not self.future.done():
                self.future.set_result(self._receipts)

    def fail(self, error: StorageError | OverloadedError | StoreUnavailableError) -> None:
        """The first failure is the answer."""
        with self._lock:
            if not self.future.done():
                self.future.set_exception(error)


def _offset(message: Message) -> Offset:
    return Offset(f"{message.topic()}/{int(message.partition() or 0)}", int(message.offset() or 0))


def _published_at(message: Message) -> float | None:
    kind, milliseconds = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000


def _address(server: str, url: StoreUrl) -> tuple[str, int]:
    return StoreUrl.parse(f"{url.scheme}://{server}").address(_PORT)


def _key(visitor: Visitor) -> bytes:
    return json.dumps(key_of(visitor)).encode()


def _reason(message: Message) -> str:
    value = dict(message.headers() or []).get(_REASON)
    return value.decode() if isinstance(value, bytes) else str(value)


def dead_letters(url: str, count: int, timeout_seconds: float = 10.0) -> list[tuple[str, bytes]]:
    """Up to `count` buried deliveries as (reason, bytes), for people to look at."""
    place = Place(url, timeout_seconds)
    client = Client({**place.common(), "group.id": "asterism-dead-letters", "enable.auto.commit": False})
    try:
        found = place.reach.call(lambda: client.list_topics(place.dead_topic, timeout=timeout_seconds))
        numbers = found.topics[place.dead_topic].partitions
        client.assign([TopicPartition(place.dead_topic, number, 0) for number in numbers])
        messages = client.consume(count, timeout_seconds)
        return [(_reason(message), message.value() or b"") for message in messages if message.error() is None]
    finally:
        client.close()
