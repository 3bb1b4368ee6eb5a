"""The supervised tasks; each makes its examples from the catalogue and the training histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from asterism.config import TaskWeights
from asterism.core.errors import TrainingError
from asterism.data.sequences import Sequences
from asterism.training.sft.example import Example, Writer
from asterism.training.sft.phrases import Phrases


class Task(Protocol):
    """One kind of example."""

    def examples(self, weight: float) -> Iterator[Example]:
        """All of them, in a fixed order."""
        ...


class NextItem:
    """The semantic ids of a history → that of the next item.

    Where the prompt ends with the history, one row asks for every event of its user, the first one included.
    """

    def __init__(self, phrases: Phrases, train: Sequences, every_event: bool) -> None:
        self._phrases, self._train, self._every_event = phrases, train, every_event

    def examples(self, weight: float) -> Iterator[Example]:
        """See `Task.examples`."""
        for row in range(len(self._train)):
            items = self._train.items[self._train.row(row)].tolist()
            yield from self._of_row(items, weight) if self._every_event else self._of_events(items, weight)

    def _of_row(self, items: list[int], weight: float) -> Iterator[Example]:
        newest = items[-self._phrases.max_events - 1 :]
        if newest:
            writer = Writer().give(self._phrases.prompt.head)
            for item in newest:
                self._phrases.ask_item(writer, item)
            yield writer.done(weight)

    def _of_events(self, items: list[int], weight: float) -> Iterator[Example]:
        for place, item in enumerate(items):
            writer = Writer().give(self._phrases.history(items[:place]))
            yield self._phrases.ask_item(writer, item).done(weight)


class TextToItem:
    """A title, or the beginning of a description, → the semantic id of its item."""

    def __init__(self, phrases: Phrases, name: str, read: Callable[[], list[list[int]]]) -> None:
        """`read` gives each item's text, called `name` in the example."""
        self._phrases, self._name, self._read = phrases, name, read

    def examples(self, weight: float) -> Iterator[Example]:
        """See `Task.examples`; items without the text have none, and what the context has no room for is not read."""
        before, after = self._phrases.text(f"{self._name}: "), self._phrases.text("\nitem: ")
        for item, text in enumerate(self._read()):
            room = self._phrases.room_beside(before, after, self._phrases.paths[item])
            if shown := text[:room]:
                writer = Writer().give([*before, *shown, *after])
                yield self._phrases.ask_item(writer, item).done(weight)


class ItemToTitle:
    """A semantic id → the title of its item."""

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases

    def examples(self, weight: float) -> Iterator[Example]:
        """See `Task.examples`; items without a title have none."""
        before, after = self._phrases.text("item: "), self._phrases.text("\ntitle: ")
        for item, title in enumerate(self._phrases.titles()):
            if title:
                given = [*before, *self._phrases.paths[item], *after]
                yield Writer().give(given).ask_text([*title, *self._phrases.end]).done(weight)


class NextTitle:
    """The semantic ids of a history → the title of the next item, for each user's newest event."""

    def __init__(self, phrases: Phrases, train: Sequences) -> None:
        self._phrases, self._train = phrases, train

    def examples(self, weight: float) -> Iterator[Example]:
        """See `Task.examples`; users with one event, or whose newest item has no title, have none.

        Of a history that leaves the title no room the oldest events go.
        """
        titles, ask = self._phrases.titles(), self._phrases.text("\ntitle: ")
        for row in range(len(self._train)):
            *history, newest = self._train.items[self._train.row(row)].tolist() or [0]
            if history and titles[newest]:
                answer = [*titles[newest], *self._phrases.end]
                given = [*self._phrases.history(history, self._phrases.room_beside(ask, answer)), *ask]
                yield Writer().give(given).ask_text(answer).done(weight)


class NextItemByTitles:
    """The titles and semantic ids of a history → the semantic id of the next item, for each user's newest event."""

    def __init__(self, phrases: Phrases, train: Sequences) -> None:
        self._phrases, self._train = phrases, train

    def examples(self, weight: float) -> Iterator[Example]:
        """See `Task.examples`; what the context has no room for goes oldest first."""
        events = self._events()
        ask = self._phrases.text("next item: ")
        for row in range(len(self._train)):
            *history, newest = self._train.items[self._train.row(row)].tolist() or [0]
            if history:
                room = self._phrases.room_beside(ask, self._phrases.paths[newest])
                shown = _newest_that_fit([events[item] for item in history], room)
                yield self._phrases.ask_item(Writer().give([*shown, *ask]), newest).done(weight)

    def _events(self) -> list[list[int]]:
        """Each item as an event: `title <a_1><b_2>…`, one a line."""
        space, line = self._phrases.text(" "), self._phrases.text("\n")
        pairs = zip(self._phrases.titles(), self._phrases.paths, strict=True)
        return [[*title, *space, *path, *line] for title, path in pairs]


def make_examples(phrases: Phrases, train: Sequences, weights: TaskWeights, every_event: bool) -> list[Example]:
    """The examples of all tasks with a weight, cut to the context; those that then ask for nothing are left out.

    Raises `TrainingError` where there is none.
    """
    tasks: dict[str, Task] = {
        "next_item": NextItem(phrases, train, every_event),
        "title_to_item": TextToItem(phrases, "title", phrases.titles),
        "item_to_title": ItemToTitle(phrases),
        "next_title": NextTitle(phrases, train),
        "next_item_by_titles": NextItemByTitles(phrases, train),
        "description_to_item": TextToItem(phrases, "description", phrases.descriptions),
    }
    wanted = {name: weight for name in tasks if (weight := getattr(weights, name)) > 0}
    made = [one for name, weight in wanted.items() for one in tasks[name].examples(weight)]
    examples = [one for one in (_within(one, phrases.context) for one in made) if one.answers]
    if not examples:
        raise TrainingError(
            f"the tasks {', '.join(wanted)} have no example in these data that {phrases.context} tokens hold; give "
            "items titles or descriptions, or users more events, or raise `llm.max_prompt_tokens`"
        )
    return examples


def _newest_that_fit(events: list[list[int]], tokens: int) -> list[int]:
    shown: list[list[int]] = []
    for event in reversed(events):
        tokens -= len(event)
        if tokens < 0:
            break
        shown.append(event)
    return [token for event in reversed(shown) for token in event]


def _within(example: Example, context: int) -> Example:
    """The example cut to the context; of a long answer in text the end is not learned."""
    if len(example) <= context:
        return example
    return Example(example.tokens[:context], example.asked[:context], example.targets[:context], example.weight)
