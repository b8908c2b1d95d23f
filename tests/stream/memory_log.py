"""The log in memory, as lanes meet it: records, a consumer, and a place for dead letters."""

from dataclasses import dataclass, field

from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.dead_letter import Ticket


@dataclass(frozen=True)
class Record:
    """One record of the log, as a consumer hands it out."""

    offset: int
    value: bytes | None = None
    key: bytes | None = b"key"
    timestamp: int = 1000
    headers: tuple = ()


@dataclass
class Log:
    """Partitions in memory; ``idle`` is called when a poll finds nothing."""

    partitions: dict[int, list[Record]]
    idle: list = field(default_factory=list)
    opened: list = field(default_factory=list)
    closed: int = 0
    # Offsets that a transaction marker takes: a chunk ends behind them.
    markers: int = 0

    def open(self, positions):
        self.opened.append(dict(positions))
        return Consumer(self, dict(positions))


class Consumer:
    """What ``LogConsumer`` is to a lane, over a ``Log``."""

    def __init__(self, log, positions):
        self.log = log
        self.positions = positions
        self.paused = set()

    def poll(self, timeout_ms, max_records):
        chunks = []
        for partition in sorted(set(self.positions) - self.paused):
            at = self.positions[partition]
            found = [r for r in self.log.partitions[partition] if r.offset >= at][:max_records]
            if found:
                self.positions[partition] = found[-1].offset + 1 + self.log.markers
                chunks.append(Chunk(partition, found, self.positions[partition]))
        if not chunks:
            # The last one stays: it stops the lane.
            step = self.log.idle.pop(0) if len(self.log.idle) > 1 else self.log.idle[0]
            step()
        return chunks

    def highwater(self, partition):
        records = self.log.partitions[partition]
        return records[-1].offset + 1 if records else 0

    def pause(self, partition):
        self.paused.add(partition)

    def resume(self, partition):
        self.paused.discard(partition)

    def close(self):
        self.log.closed += 1


class Letters:
    """Takes dead letters; they are safe at once, or when told."""

    def __init__(self, at_once=True):
        self.at_once = at_once
        self.tickets = []

    def submit(self, letters):
        ticket = Ticket(letters)
        self.tickets.append(ticket)
        if self.at_once:
            ticket.finish()
        return ticket

    @property
    def origins(self):
        return [letter.origin for ticket in self.tickets for letter in ticket.letters]
