"""Whatever connections break and heal: each message arrives once, and in order."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maggy.wire.link import Link

SIDES = st.sampled_from([0, 1])


class _Side:
    """One end: what it said and heard, and the pipe to the other end."""

    def __init__(self) -> None:
        self.link = Link()
        self.said: list[bytes] = []
        self.heard: list[bytes] = []
        self.pipe: deque[bytes | int] = deque()  # a word, or an acknowledgement


class Conversation(RuleBasedStateMachine):
    """Two sides talk over a connection that may break at any byte and come back at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = (_Side(), _Side())
        self.connected = False

    @rule(side=SIDES)
    def say(self, side: int) -> None:
        """A message is said, connected or not."""
        speaker = self.sides[side]
        word = f"{side}:{len(speaker.said)}".encode()
        speaker.said.append(word)
        speaker.link.sent(word)
        if self.connected:
            speaker.pipe.append(word)

    @rule(side=SIDES)
    def acknowledge(self, side: int) -> None:
        """A side tells how many it has had."""
        if self.connected:
            self.sides[side].pipe.append(self.sides[side].link.received)

    @rule(side=SIDES, count=st.integers(1, 5))
    def arrive(self, side: int, count: int) -> None:
        """The next things in the pipe arrive at the other end."""
        speaker, hearer = self.sides[side], self.sides[1 - side]
        for _ in range(min(count, len(speaker.pipe))):
            item = speaker.pipe.popleft()
            if isinstance(item, int):
                hearer.link.acknowledged(item)
            else:
                hearer.heard.append(item)
                hearer.link.took()

    @rule()
    def lose(self) -> None:
        """The connection breaks, with everything that is under way."""
        self.connected = False
        for side in self.sides:
            side.pipe.clear()

    @rule()
    def resume(self) -> None:
        """A new connection, also in place of one that seems alive."""
        self.lose()
        self.connected = True
        first, second = self.sides
        first.pipe.extend(first.link.resume(second.link.received))
        second.pipe.extend(second.link.resume(first.link.received))

    @invariant()
    def once_and_in_order(self) -> None:
        """What was heard is the beginning of what was said, and the rest is kept."""
        for speaker, hearer in (self.sides, self.sides[::-1]):
            assert hearer.heard == speaker.said[: len(hearer.heard)]
            kept = speaker.link.unacknowledged_bytes
            assert kept >= sum(map(len, speaker.said[len(hearer.heard) :]))

    def teardown(self) -> None:
        """After one more connection, all was heard, and all can be forgotten."""
        self.resume()
        for side in (0, 1):
            self.arrive(side, len(self.sides[side].pipe))
        for side in (0, 1):
            self.acknowledge(side)
            self.arrive(side, 1)
        for speaker, hearer in (self.sides, self.sides[::-1]):
            assert hearer.heard == speaker.said
            assert speaker.link.unacknowledged_bytes == 0


Conversation.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestConversation = Conversation.TestCase
