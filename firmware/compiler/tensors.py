"""A tensor of a layer, wherever it lies: in the scratchpad, or in DRAM and block by block in the
scratchpad."""

from dataclasses import dataclass, field, replace

from ..machine.memory import Region
from .recorder import DramArray, Recorder, View

__all__ = ["Pieces", "Rows", "Tensor"]


@dataclass(eq=False)
class Tensor:
    """Rows of ``words`` words.

    ``region`` holds the whole tensor; None: it is spilled to ``home``, read through ``slots`` in turn, or
    through the ring where there are none, and written through the ring. A tensor with both is kept: it is
    stored for the host to see. ``base_row`` is its row 0 in ``home``. Where ``period`` is given, as many rows at a time
    take turns in the two halves of ``region``.
    """

    recorder: Recorder
    name: str
    words: int
    region: Region | None = None
    slots: list[Region] = field(default_factory=list)
    home: DramArray | None = None
    base_row: int = 0
    period: int = 0
    _turn: int = 0
    _cached: list[tuple[tuple[int, int, int, int], View]] = field(default_factory=list)

    def read(self, first: int, end: int, word: int, words: int, room: int = 0) -> View:
        """Words ``word`` to ``word + words - 1`` of rows ``first`` to ``end`` - 1; loaded unless they are
        there. The operation may touch ``room`` words, if those are more."""
        if self.region is not None:
            return self._resident(first, word)
        key = (first, end, word, words)
        for cached, view in self._cached:
            if cached == key:
                return view
        assert self.home is not None
        rows = (self.base_row + first, self.base_row + end)
        comment = f"{self.name} rows {first} to {end - 1}"
        if not self.slots:
            return self.recorder.stream(self.home, rows, word, words, comment, room)
        slot = self.slots[self._turn % len(self.slots)]
        self._turn += 1
        view = self.recorder.fetch(slot, self.home, rows, word, words, comment)
        self._cached = [*self._cached[len(self._cached) + 1 - len(self.slots) :], (key, view)]
        return view

    def _resident(self, first: int, word: int) -> View:
        assert self.region is not None
        turn, row = divmod(first, self.period) if self.period else (0, first)
        return View(self.region, turn % 2 * (self.region.words // 2) + row * self.words + word, self.words)

    def target(self, first: int, end: int, word: int, words: int) -> View:
        """Where an operation may write the words; :meth:`written` has to follow it."""
        if self.region is not None:
            return self._resident(first, word)
        return View(self.recorder.scratch((end - first) * words), 0, words)

    def written(self, view: View, first: int, end: int, word: int, words: int) -> None:
        """The words have been written to ``view``: store them when the tensor has a home."""
        if self.home is not None:
            rows = (self.base_row + first, self.base_row + end)
            self.recorder.store(view, self.home, rows, word, words, f"{self.name} rows {first} to {end - 1}")


@dataclass(frozen=True)
class Pieces:
    """Rows ``first`` to ``end`` - 1 of a tensor that come in pieces of ``piece_words`` words, each loaded when it is
    used; ``row`` is the row in them that counts as row 0."""

    tensor: Tensor
    first: int
    end: int
    piece_words: int
    row: int = 0

    def from_row(self, row: int) -> "Pieces":
        """The rows from ``row`` on."""
        return replace(self, row=self.row + row)

    def at(self, row: int, word: int = 0) -> View:
        """The piece that starts with ``word``, from ``row`` on."""
        assert word % self.piece_words == 0
        words = min(self.piece_words, self.tensor.words - word)
        return self.tensor.read(self.first, self.end, word, words).at(self.row + row)


@dataclass(frozen=True)
class Rows:
    """Rows ``first`` to ``end`` - 1 of a tensor, which operations read and write in parts.

    They lie in the scratchpad, in ``view``; None: each part comes from the tensor's home when it is read, and goes
    there when it is written."""

    tensor: Tensor
    first: int
    end: int
    view: View | None

    def operand(self, piece_words: int) -> View | Pieces:
        """The rows as an operand of products whose weights come in pieces of ``piece_words`` words."""
        return self.view or Pieces(self.tensor, self.first, self.end, piece_words)

    def read(self, word: int, words: int) -> View:
        """Words ``word`` to ``word + words - 1`` of each row."""
        return self.view.at(0, word) if self.view else self.tensor.read(self.first, self.end, word, words)

    def target(self, word: int, words: int) -> View:
        """Where an operation may write these words; :meth:`written` has to follow it."""
        return self.view.at(0, word) if self.view else self.tensor.target(self.first, self.end, word, words)

    def written(self, target: View, word: int, words: int) -> None:
        """The words have been written to ``target``."""
        if self.view is None:
            self.tensor.written(target, self.first, self.end, word, words)

    def finish(self) -> None:
        """All words have been written: store them when they lie in the scratchpad and the tensor has a home."""
        if self.view is not None:
            self.tensor.written(self.view, self.first, self.end, 0, self.tensor.words)
