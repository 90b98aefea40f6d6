"""From a placed model and sentence lengths to a program: workspace, plans, schedule, placement,
synchronisation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from operator import itemgetter

from ...hdl.control.fetch import PREFETCH
from ...hdl.isa import INSTRUCTION_BYTES, Opcode
from ..machine.assembler import Instruction, assemble
from ..machine.dependencies import Edge, synchronise
from ..machine.estimate import estimate
from ..machine.geometry import CompileError, Geometry, ceil_div
from ..machine.layout import LayerImage, ModelImage
from ..machine.memory import Ring
from .groups import Group, group_sentences
from .planner import STEP_WORDS, Choice, Plan, plans
from .program import KEEPABLE, KeptTensor, Program
from .recorder import DramArray, Recorder, RingError, place
from .scheduler import GroupScheduler, Homes

__all__ = ["compile_program"]

_ALIGNMENT = 64
#: Tokens that sentences are put together to; more brings the array no closer to its peak.
_GROUP_TOKENS = 128
#: Plans whose cycles are predicted, and after how many instructions of them no more: it is the time of a compilation.
_CANDIDATES = 6
_MOST_COMPARED = 100_000
#: Instructions of a layer from which on plans that differ in one number from the best one are worth their time, and how
#: many of them.
_LONG = 4000
_NEIGHBOURS = 3
#: Ratio of cycles up to which plans count as equal.
_INDIFFERENT = 1.0005


class _Workspace:
    """Hands out DRAM, and remembers the arrays that tensors live in."""

    def __init__(self, geometry: Geometry, start: int):
        self.geometry = geometry
        self.end = start
        self.arrays: dict[tuple[object, ...], DramArray] = {}

    def take(self, size: int, alignment: int = _ALIGNMENT) -> int:
        address = ceil_div(self.end, alignment) * alignment
        self.end = address + size
        return address

    def array(self, rows: int, words: int, *keys: tuple[object, ...], piece_words: int = 0) -> None:
        """An array of ``rows`` rows of ``words`` words that is known by each of ``keys``; cut into pieces of
        ``piece_words``, if given, or a few more so that each begins at a whole beat."""
        beat = self.geometry.beat_bytes // self.geometry.config.rows
        piece_words = ceil_div(piece_words, beat) * beat
        row_bytes = self.geometry.row_bytes(words)
        array = DramArray(self.take(rows * row_bytes), row_bytes, rows, words, piece_words)
        for key in keys:
            self.arrays[key] = array

    def homes(self, base: int, mask: int) -> Homes:
        """Fresh homes for one recorder: no stores yet; arrays that several keys share stay shared."""
        fresh = {id(a): replace(a, stores={}) for a in self.arrays.values()}
        return Homes({key: fresh[id(a)] for key, a in self.arrays.items()}, base, mask)


def _place_tensors(
    space: _Workspace, image: LayerImage, groups: Sequence[Group], plan_list: Sequence[Plan], keep: Iterable[str]
) -> None:
    """Give every tensor that is kept or spilled a home: rows for the host to read, else cut into the pieces in which
    they are read, since the bus moves long runs faster than short ones."""
    g = space.geometry
    tokens = sum(group.tokens for group in groups)
    layers = range(g.layers)

    def spilled(name: str) -> bool:
        return any(name not in plan.choice.resident for plan in plan_list)

    def streamed(name: str) -> bool:
        return any(name in plan.choice.streamed for plan in plan_list)

    space.array(tokens, g.hidden_words, ("stream", 0))
    for layer in layers:
        if "output" in keep or spilled("stream") or layer == g.layers - 1:
            space.array(tokens, g.hidden_words, ("stream", layer + 1))
    head = g.piece_words(g.head_words) if streamed("heads") else g.head_words
    head = head if g.head_words % head == 0 else g.head_words
    output = image.weights["output"].piece_words if streamed("rows") else 0
    for name, resident, piece in (("query", "query", head), ("context", "query", output), ("key", "key", head)):
        if name in keep:
            for layer in layers:
                space.array(tokens, g.context_words, (name, layer))
        elif spilled(resident):
            space.array(tokens, g.context_words, *((name, layer) for layer in layers), piece_words=piece)
    for group in groups:
        keys = [("value_transposed", layer, group.row) for layer in layers]
        if "value_transposed" in keep:
            for key in keys:
                space.array(g.value_channels, g.words(group.tokens), key)
        elif spilled("value"):
            piece = min(plan.choice.value_words for plan in plan_list)
            space.array(g.value_channels, g.words(group.tokens), *keys, piece_words=piece)
        if "numerators" in keep:
            for s in group.sentences:
                for layer in layers:
                    space.array(g.heads * s.length, s.window_words, ("numerators", layer, s.index))
    for name, words, cause, use in (
        ("attention_norm", g.hidden_words, "rows", "ffn_in"), ("ffn_hidden", g.ffn_words, "hidden", "ffn_out"),
    ):
        if name in keep:
            for layer in layers:
                space.array(tokens, words, (name, layer))
        elif streamed(cause):
            piece = image.weights[use].piece_words
            space.array(tokens, words, *((name, layer) for layer in layers), piece_words=piece)


def _kept_tensors(space: _Workspace, groups: Sequence[Group], keep: tuple[str, ...]) -> list[KeptTensor]:
    """Of every layer what is to be kept, and the outputs that lie in DRAM anyway. Other tensors may lie there too, but
    those of one layer in the place of another's."""
    g, arrays = space.geometry, space.arrays
    pitch = g.head_words * g.config.rows
    found = []
    for layer in range(g.layers):
        for group in groups:
            for s in group.sentences:
                row = group.row + s.start

                def add(
                    name: str,
                    key: tuple[object, ...],
                    row: int,
                    count: int,
                    column: int,
                    heads: int,
                    width: int,
                    layer: int = layer,
                    s: int = s.index,
                ) -> None:
                    array = arrays.get(key)
                    if array is not None and (name in keep or name == "output"):
                        found.append(
                            KeptTensor(
                                name,
                                layer,
                                s,
                                array.address + row * array.row_bytes,
                                array.row_bytes,
                                count,
                                column,
                                heads,
                                width,
                                pitch,
                            )
                        )

                for name in ("query", "key", "context"):
                    add(name, (name, layer), row, s.length, 0, g.heads, g.head)
                add(
                    "value_transposed",
                    ("value_transposed", layer, group.row),
                    0,
                    g.value_channels,
                    s.start,
                    1,
                    s.length,
                )
                add(
                    "numerators",
                    ("numerators", layer, s.index),
                    0,
                    g.heads * s.length,
                    s.start - s.window,
                    1,
                    s.length,
                )
                add("attention_norm", ("attention_norm", layer), row, s.length, 0, 1, g.hidden)
                add("ffn_hidden", ("ffn_hidden", layer), row, s.length, 0, 1, g.ffn)
                add("output", ("stream", layer + 1), row, s.length, 0, 1, g.hidden)
    return found


def _schedule(image: ModelImage, plan: Plan, homes: Homes) -> list[Instruction]:
    recorder = Recorder(image.geometry.config)
    GroupScheduler(image, plan, recorder, homes).run()
    parameters = Ring(plan.ring_start - plan.parameter_words, plan.parameter_words) if plan.parameter_words else None
    try:
        return place(recorder, Ring(plan.ring_start, plan.ring_words), parameters=parameters)
    except RingError:
        if not plan.choice.streamed:
            raise
    # Of what streams there is no plan that needs less.
    return place(recorder, Ring(plan.ring_start, plan.ring_words), ahead=False)


def compile_program(
    image: ModelImage,
    lengths: Sequence[int],
    keep: Iterable[str] = ("output",),
    base: int = 0,
    workspace: int | None = None,
    apart: bool | None = None,
) -> Program:
    """Compile a batch.

    Parameters
    ----------
    lengths
        Tokens of each sentence.
    keep
        Tensors that the host wants to see of every layer, of :data:`KEEPABLE`; the last layer's output is
        always kept.
    base
        DRAM address of the model's image; a multiple of 64.
    workspace
        DRAM address from which on the program may use memory; behind the image unless given.
    apart
        Whether LayerNorm is done in a pass of its own; the cycle model decides unless given.

    Raises
    ------
    CompileError
        When the batch is empty, a length or a name is not allowed, the configuration's memories can't hold what a
        single row needs, or the program would have addresses that its bus can't give.
    """
    geometry, config = image.geometry, image.geometry.config
    keep = tuple(keep)
    for name in keep:
        if name not in KEEPABLE:
            raise CompileError(f"{name!r} can't be kept; what can is {', '.join(KEEPABLE)}")
    if not lengths:
        raise CompileError("a batch must have at least one sentence")
    for length in lengths:
        if not 1 <= length <= config.max_tokens:
            raise CompileError(f"a sentence must have 1 to {config.max_tokens} tokens, not {length}")
    together, one_by_one = (group_sentences(geometry, lengths, tokens) for tokens in (_GROUP_TOKENS, 0))
    # Sentences need more memory together than one by one, and streaming takes less still.
    attempts = product((False, True), [together] if together == one_by_one else [together, one_by_one])
    for streaming, groups in attempts:
        try:
            return _compile_groups(image, keep, base, workspace, groups, apart, streaming)
        except CompileError as error:
            refusal = error
    raise refusal


def _compile_groups(
    image: ModelImage, keep: tuple[str, ...], base: int, workspace: int | None, groups: list[Group],
    apart: bool | None, streaming: bool,
) -> Program:
    known: dict[tuple[int, ...], list[tuple[Choice, int, float]]] = {}
    choices = [_ranked(image, group, apart, streaming, known) for group in groups]
    plan_list = [_next(choice, image) for choice in choices]
    while True:
        try:
            return _compile(image, keep, base, workspace, groups, plan_list)
        except _PlanError as error:
            plan_list[error.group] = _next(choices[error.group], image)


def _ranked(
    image: ModelImage, group: Group, apart: bool | None, streaming: bool,
    known: dict[tuple[int, ...], list[tuple[Choice, int, float]]],
) -> Iterator[Plan]:
    """The plans of ``group``: first the most promising ones, in the order of the cycles that the cycle model gives a
    layer by them, then all. ``known`` keeps what was found for sentences of the same lengths."""
    lengths = tuple(s.length for s in group.sentences)
    if lengths not in known:
        known[lengths] = _compared(image, lengths, apart, streaming)
    for choice, step_words, cost in known[lengths]:
        plan = next((plan for plan in plans(image, group, choice)), None)
        if plan is not None:
            plan.step_words, plan.cost = step_words, cost
            yield plan
    yield from plans(image, group, apart=apart, streaming=streaming)


def _compared(
    image: ModelImage, lengths: tuple[int, ...], apart: bool | None, streaming: bool
) -> list[tuple[Choice, int, float]]:
    """The best plans for one layer of one group of ``lengths``: choice, words of a step, predicted cycles."""
    geometry = replace(image.geometry, layers=1)
    layer = replace(image, geometry=geometry, layers=image.layers[:1])
    group, = group_sentences(geometry, lengths, sum(lengths))
    found: list[tuple[Choice, int, float]] = []
    compared = 0

    def compare(choice: Choice, step_words: int) -> int:
        """Adds a plan to ``found``, if it can be placed; returns how many instructions it has."""
        plan = next(plans(layer, group, choice))  # scheduling leaves its traces in the regions
        plan.step_words = step_words
        try:
            instructions, edges, _ = _instructions(layer, ("output",), 0, None, [group], [plan])
        except _PlanError:
            return 0
        found.append((choice, step_words, estimate(geometry.config, instructions, edges).cycles))
        return len(instructions)

    length = 0
    for plan in plans(layer, group, apart=apart, streaming=streaming):
        for step_words in STEP_WORDS:
            length = compare(plan.choice, step_words)
            compared += length
            if compared > _MOST_COMPARED:
                break
        if len(found) >= _CANDIDATES or compared > _MOST_COMPARED:
            break
    if length > _LONG:
        for name in ("panel", "unit"):
            best, step_words, _ = min(found, key=itemgetter(2))
            ranked = (plan.choice for plan in plans(layer, group, apart=apart, streaming=streaming))
            others = (c for c in ranked if c != best and replace(c, **{name: getattr(best, name)}) == best)
            for choice in islice(others, _NEIGHBOURS):
                compare(choice, step_words)
    # The model does not tell small differences apart: the rough order decides between those.
    enough = _INDIFFERENT * min((cycles for *_, cycles in found), default=0)
    return sorted(found, key=lambda item: max(item[2], enough))


class _PlanError(Exception):
    def __init__(self, group: int):
        super().__init__()
        self.group = group


def _next(choice: Iterable[Plan], image: ModelImage) -> Plan:
    for plan in choice:
        return plan
    config = image.geometry.config
    raise CompileError(
        f"one row of {image.geometry.hidden} and {image.geometry.ffn} columns with its parameters must "
        f"fit the scratchpad of {config.scratchpad_kib} KiB"
    )


@dataclass(frozen=True)
class _Places:
    """Where in DRAM a program's workspace, its mask and its instructions lie."""

    space: _Workspace
    mask: int
    mask_bytes: int
    program: int


def _instructions(
    image: ModelImage,
    keep: tuple[str, ...],
    base: int,
    workspace: int | None,
    groups: list[Group],
    plan_list: list[Plan],
) -> tuple[list[Instruction], list[Edge], _Places]:
    """The instructions of the batch, synchronised, and their dependencies."""
    geometry, config = image.geometry, image.geometry.config
    space = _Workspace(geometry, base + image.data.size if workspace is None else workspace)
    mask_bytes = sum(geometry.row_bytes(group.mask_words) for group in groups)
    mask = space.take(mask_bytes)
    _place_tensors(space, image.layers[0], groups, plan_list, keep)
    start = space.take(0)
    instructions: list[Instruction] = []
    for index, plan in enumerate(plan_list):
        try:
            instructions += _schedule(image, plan, space.homes(base, mask))
        except RingError as error:
            raise _PlanError(index) from error
    written = (mask // config.bus_bytes * config.bus_bytes, start)
    edges = synchronise(config, instructions, written)
    instructions.append(Instruction(Opcode.END))
    # From a whole block on, which the cycle model takes for granted.
    address = space.take(len(instructions) * INSTRUCTION_BYTES, PREFETCH * INSTRUCTION_BYTES)
    return instructions, edges, _Places(space, mask, mask_bytes, address)


def _compile(
    image: ModelImage,
    keep: tuple[str, ...],
    base: int,
    workspace: int | None,
    groups: list[Group],
    plan_list: list[Plan],
) -> Program:
    instructions, edges, places = _instructions(image, keep, base, workspace, groups, plan_list)
    bits, end = image.geometry.config.address_bits, places.space.end
    if base < 0 or end > 1 << bits:
        raise CompileError(
            f"every address of a program must be below 2 ** address_bits = {1 << bits:#x}, with address_bits = {bits}; "
            f"model, program and tensors lie from {base:#x} to {end - 1:#x}"
        )
    home = places.space.arrays["stream", 0]
    return Program(
        image.geometry,
        tuple(s.length for group in groups for s in group.sentences),
        keep,
        places.program,
        instructions,
        assemble(instructions),
        edges,
        plan_list,
        home.address,
        home.row_bytes,
        places.mask,
        places.mask_bytes,
        _kept_tensors(places.space, groups, keep),
        places.space.end,
        groups,
    )
