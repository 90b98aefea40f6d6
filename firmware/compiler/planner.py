"""Plans: which tensors stay in the scratchpad, and in blocks of how many rows a group of sentences is
computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import combinations, pairwise, product

from ...hdl.bus.bursts import BURST_BEATS
from ...hdl.config import AcceleratorConfig
from ...hdl.isa import Function
from ...hdl.vector.issuer import group_cycles
from ..machine.geometry import CompileError, Geometry, ceil_div
from ..machine.layout import LayerImage, ModelImage
from ..machine.memory import Phase, Region, pack
from .groups import Group, Sentence

__all__ = ["STEP_WORDS", "Choice", "Plan", "plans", "value_tiles"]

#: Cycles of the vector engine's start-ups and drains in an attention unit, and what a unit costs on top.
_SOFTMAX_OVERHEAD = 130
_UNIT_OVERHEAD = 20
#: Cycles in which a chunk of keys is handed from engine to engine, besides those of the way through the array.
_CHUNK_OVERHEAD = 80
#: Cycles of a burst besides its beats.
_BURST_LATENCY = 43
#: Accumulator words of a step, where the scheduler is free to choose: in long ones the start-up of an instruction does
#: not matter, of short ones more of the epilogue hides under the next step.
STEP_WORDS = (1024, 128)
_TENSORS = ("stream", "query", "key", "value")
#: Kinds of regions that are read in the same cycle, the most often read first: as operands of a product, or as one of
#: them and as the residual operand (that of another block). The context takes the place of a query.
_READ_TOGETHER = (
    ("query", "key"), ("numerators", "value"), ("stream", "stream"), ("block", "block"), ("stream", "hidden"),
    ("block", "hidden"), ("stream", "query"), ("block", "context"),
)
#: What :attr:`Choice.streamed` may be; each needs less of the scratchpad than the one before.
_STREAMED = tuple(frozenset(names) for names in ((), ("hidden",), ("hidden", "rows"), ("hidden", "rows", "heads")))


@dataclass(frozen=True)
class Choice:
    """What a plan decides.

    ``resident`` tensors stay in the scratchpad. Rows: ``block`` through LayerNorm and FFN at a time,
    ``panel`` through the projections (when the stream is spilled), ``unit`` of a sentence through attention.
    ``apart``: LayerNorm is done in a pass of its own, which computes the sums of its rows again. ``split``: panels
    come in pieces of the reduction. ``turns``: the values of a head are made while attention works on the head before,
    and take turns in two places. ``slots`` of a spilled tensor take turns; spilled keys come in pieces of
    ``key_tiles`` tiles, spilled values in pieces of ``value_words`` words. Where ``chunk_tiles`` is not 0, attention
    works on as many tiles of keys at a time.

    Of what is ``streamed`` not even a row lies in the scratchpad: it is made and used in parts, which go through the
    ring to DRAM and back. ``hidden``: the FFN's hidden layer; ``rows``: those of a block, that is the context, the
    residual stream and what LayerNorm makes of it; ``heads``: queries, keys and weighted values of a head.
    """

    resident: frozenset[str]
    block: int
    panel: int
    unit: int
    slots: int = 2
    key_tiles: int = 1
    value_words: int = 1
    apart: bool = False
    split: bool = False
    turns: bool = False
    streamed: frozenset[str] = frozenset()
    chunk_tiles: int = 0

    @property
    def overlap(self) -> bool:
        """Whether attention begins before the projections have ended: not where memory is short."""
        return self.slots > 1


@dataclass(eq=False)
class Plan:
    """A choice for one group, the map of the scratchpad that follows from it, and its cost in cycles of a layer: rough,
    or by the cycle model. A step has up to ``step_words`` accumulator words."""

    group: Group
    choice: Choice
    cost: float
    regions: dict[str, list[Region]]
    ring_start: int = 0
    ring_words: int = 0
    parameter_words: int = 0
    step_words: int = STEP_WORDS[0]

    def describe(self) -> str:
        """For people: the decisions and the map of the scratchpad."""
        streamed, tiles = sorted(self.choice.streamed), self.choice.chunk_tiles
        chunks = f" with chunks of {tiles} tiles" if tiles else ""
        lines = [
            f"{len(self.group.sentences)} sentences, {self.group.tokens} tokens; "
            f"blocks of {self.choice.block} rows, panels of {self.choice.panel}, "
            f"attention units of {self.choice.unit}{chunks}, steps of up to {self.step_words} words; "
            f"LayerNorm {'apart' if self.choice.apart else 'fused'}; "
            f"resident: {', '.join(sorted(self.choice.resident)) or 'nothing'}"
            f"{'; streamed: ' + ', '.join(streamed) if streamed else ''}"
        ]
        for regions in self.regions.values():
            for region in regions:
                phases = "/".join(str(phase.name).lower() for phase in Phase(region.phases))
                lines.append(f"  {region.address:6} to {region.end:6}  {region.name} ({phases})")
        if self.parameter_words:
            lines.append(f"  {self.ring_start - self.parameter_words:6} to {self.ring_start:6}  ring of parameters")
        lines.append(f"  {self.ring_start:6} to {self.ring_start + self.ring_words:6}  ring")
        return "\n".join(lines) + "\n"


def unit_limit(geometry: Geometry, group: Group, streamed: frozenset[str]) -> int:
    """Most rows of an attention unit: scores and weighted values (a part of them, where heads are ``streamed``) share
    an accumulator half, and the statistics of two units the row table, with room for the value projection's."""
    config = geometry.config
    widest = max(sentence.window_words for sentence in group.sentences)
    tiles = geometry.tiles(widest)
    tiles += geometry.tile_step if "heads" in streamed else geometry.tiles(geometry.head_words)
    longest = max(sentence.length for sentence in group.sentences)
    return min(config.half_words // tiles, config.row_entries * 3 // 8, longest)


def _group_latency(config: AcceleratorConfig) -> int:
    """Cycles of the vector engine from one group of columns to the next, however few rows there are."""
    return group_cycles(config, Function.ATTENTION_OUTPUT, 1)


def _chunks(geometry: Geometry, group: Group) -> Iterator[tuple[int, int]]:
    """Tiles of a chunk of keys, and rows of an attention unit that works on chunks: where the scores of a row with all
    keys take so much of the accumulators that a unit has fewer rows than the array or the vector engine needs."""
    g, config = geometry, geometry.config
    longest = max(s.length for s in group.sentences)
    total = g.tiles(max(s.window_words for s in group.sentences))
    if unit_limit(g, group, frozenset()) >= min(max(config.cols, _group_latency(config)), longest):
        return
    tiles = g.tile_step
    while tiles < total:
        most = min(config.half_words // max(tiles, g.tiles(g.head_words)), config.row_entries * 3 // 8, longest)
        for unit in {ceil_div(longest, ceil_div(longest, max(1, most >> i))) for i in range(3)}:
            if 0 < unit <= most:
                yield tiles, unit
        tiles *= 2


def block_limit(geometry: Geometry, group: Group, apart: bool) -> int:
    """Most rows of a block: in LayerNorm all of its columns lie in an accumulator half, or, ``apart``, those of a step
    at a time, as in the FFN."""
    g, config = geometry, geometry.config
    widths = g.tiles(g.hidden_words), g.tiles(g.ffn_words)
    hidden, ffn = (min(tiles, g.tile_step) for tiles in widths)
    tiles = max(hidden if apart else widths[0], ffn)
    return min(config.half_words // tiles, config.row_entries, group.tokens)


def _splits(total: int, limit: int) -> Iterator[int]:
    """Sizes of at most ``limit`` that cut ``total`` into equal parts, the largest first; not every one of
    them."""
    count = ceil_div(total, limit)
    while True:
        size = ceil_div(total, count)
        yield size
        if size == 1:
            return
        count = max(count + 1, count * 3 // 2)


def _ring_needs(geometry: Geometry, layer: LayerImage) -> tuple[int, int, int]:
    """Ring words: the least that can do, what lets loads overlap with work, and with which nothing waits."""
    config = geometry.config
    piece = max(config.cols * weight.piece_words for weight in layer.weights.values())
    groups = geometry.groups(geometry.hidden_words)
    residual, norm = 2 * groups * config.parameter_words, groups * config.parameter_words
    step = 2 * config.parameter_words * geometry.tile_step * config.cols // config.lanes
    return max(piece, step), max(residual, step) + 2 * piece, residual + norm + 4 * piece


def _panel_piece(layer: LayerImage) -> int:
    """Words of a panel's piece: those of the weights that it meets."""
    words, = {layer.weights[name].piece_words for name in ("query", "key", "value")}
    return words


def _regions(geometry: Geometry, group: Group, layer: LayerImage, choice: Choice) -> dict[str, list[Region]]:
    """What the scratchpad has to hold besides the ring."""
    g, cols, tokens = geometry, geometry.config.cols, group.tokens
    block, panel, unit, slots = choice.block, choice.panel, choice.unit, choice.slots
    token_words = g.words(tokens)
    result: dict[str, list[Region]] = {}

    def add(name: str, words: int, phases: Phase, count: int = 1) -> None:
        suffix = [""] if count == 1 else [f" {i}" for i in range(count)]
        result[name] = [Region(name + end, words, phases) for end in suffix]

    begun = Phase.OVERLAP | Phase.ATTEND if choice.overlap else Phase.ATTEND
    projected = Phase.PROJECT | Phase.OVERLAP | Phase.ATTEND
    streamed = choice.streamed
    add("mask", group.mask_words, begun if "heads" in streamed else Phase.ALL)
    if "stream" in choice.resident:
        add("stream", max(tokens, g.tiles(token_words) * cols) * g.hidden_words, Phase.ALL)
        if ceil_div(tokens, block) == 2:  # the residual sum of one block comes beside the FFN of the other
            result["stream"][0].cut = block * g.hidden_words
    else:
        rows = max(panel, g.tiles(g.words(panel)) * cols)
        width = _panel_piece(layer) if choice.split else g.hidden_words
        add("panel", rows * width, Phase.PROJECT | Phase.OVERLAP, min(slots, ceil_div(tokens, panel)))
        if "rows" not in streamed:
            # Two even when memory is short: the output projection of a block comes before the FFN of the one before.
            add("block", block * g.hidden_words, Phase.TRANSFORM, min(2, ceil_div(tokens, block)))
    if "query" in choice.resident:
        add("query", tokens * g.context_words, Phase.ALL)
    else:
        if "heads" not in streamed:
            add("query slot", unit * g.head_words, begun, 2 if choice.chunk_tiles else slots)
        if "rows" not in streamed:
            add("context slot", block * g.context_words, Phase.TRANSFORM, min(slots, ceil_div(tokens, block)))
    if "key" in choice.resident:
        rows = max(s.window + g.tiles(s.window_words) * cols for s in group.sentences)
        add("key", max(tokens, rows) * g.context_words, projected)
    elif slots > 1:
        add("key slot", choice.key_tiles * cols * g.head_words, begun, slots)
    if "value" in choice.resident:
        rows = 2 * g.tiles(g.head_words) * cols if choice.turns else g.value_channels
        add("value", rows * token_words, projected)
    elif slots > 1:
        add("value slot", g.tiles(g.head_words) * cols * choice.value_words, Phase.ATTEND, slots)
    window = max(s.window_words for s in group.sentences)
    add("numerators", unit * (choice.chunk_tiles * cols // g.config.rows or window), begun, 2)
    if "hidden" not in streamed:
        add("hidden", block * g.ffn_words, Phase.TRANSFORM)
    return result


def _streamed_words(geometry: Geometry, layer: LayerImage, choice: Choice) -> int:
    """Ring words that the widest operation needs whose operands go through the ring because of ``choice``."""
    g, config = geometry, geometry.config
    needs = [0]
    if "heads" in choice.streamed:
        needs += [(config.cols + choice.unit) * g.piece_words(g.head_words),
                  g.tile_step * config.cols * choice.value_words]
    elif choice.slots == 1:
        pieces = {
            "key": choice.key_tiles * config.cols * g.head_words,
            "value": g.tiles(g.head_words) * config.cols * choice.value_words,
        }
        needs += [words for name, words in pieces.items() if name not in choice.resident]
    records = 2 * config.parameter_words * g.groups(g.tile_step_words)
    used = {"hidden": ("ffn_out",), "rows": ("output", "ffn_in")}
    for names in (names for streamed, names in used.items() if streamed in choice.streamed):
        needs += [(config.cols + choice.block) * layer.weights[name].piece_words for name in names]
        needs.append(records + choice.block * g.tile_step_words)
    return max(needs)


def _cycles_of_a_word(config: AcceleratorConfig, run: int = 0) -> float:
    """Cycles that the load engine takes for a word of a run of ``run`` words, or a long one: those of its beats, or of
    the latency of bursts, if few are under way, but at least one."""
    beats = config.word_bytes / config.bus_bytes
    burst = min(BURST_BEATS, run * beats) if run else BURST_BEATS
    return max(1.0, beats, beats * (1 + _BURST_LATENCY / burst) / config.outstanding_reads)


def _cost(geometry: Geometry, group: Group, layer: LayerImage, choice: Choice) -> float:
    """A rough estimate of the cycles of a layer, to rank plans by."""
    g, config = geometry, geometry.config
    tokens, cols = group.tokens, config.cols
    resident, block, panel, unit = choice.resident, choice.block, choice.panel, choice.unit
    words = {name: weight.tiles * weight.tile_words for name, weight in layer.weights.items()}

    def passes(size: int) -> tuple[int, int]:
        """Number of blocks, and their rows, with those that a small block wastes."""
        count, rest = divmod(tokens, size)
        return count + (rest > 0), count * max(size, cols) + (max(rest, cols) if rest else 0)

    hides = words["value"] * tokens // (cols * g.heads * len(group.sentences)) if choice.turns else 0
    blocks, block_rows = passes(block)
    panels, panel_rows = passes(tokens if "stream" in resident else panel)
    project = words["query"] + words["key"] + words["value"]
    transform = (words["output"] + words["ffn_out"]) * (1 + choice.apart) + words["ffn_in"]
    array = (panel_rows * project + block_rows * transform) / cols
    moved = panels * project + blocks * transform
    for s in group.sentences:
        tiles = g.tiles(s.window_words) * g.head_words + g.tiles(g.head_words) * s.window_words
        high = max(unit, _group_latency(config))
        vector = high * (2 * g.groups(s.window_words) + g.groups(g.head_words)) + _SOFTMAX_OVERHEAD
        units = g.heads * ceil_div(s.length, unit)
        if choice.chunk_tiles:
            chunks = ceil_div(g.tiles(s.window_words), choice.chunk_tiles)
            scores, softmax = max(unit, cols) * g.tiles(s.window_words) * g.words(g.head), vector // 2
            values = max(unit, cols) * g.tiles(g.head_words) * s.window_words
            lag = _CHUNK_OVERHEAD + config.rows + cols
            array += units * (2 * scores + max(values, 2 * softmax) + 2 * (chunks + 1) * lag)
        else:
            array += units * (max(max(unit, cols) * tiles, vector - hides) + _UNIT_OVERHEAD)
        if "key" not in resident:
            again = units if choice.key_tiles < g.tiles(s.window_words) else g.heads
            again *= 2 if choice.chunk_tiles else 1
            moved += again * s.window_words * config.rows * g.head_words
        if "value" not in resident:
            again = units if choice.value_words < s.window_words else g.heads
            moved += again * s.window_words * g.head_words * config.rows
    if "stream" not in resident:
        # Pieces are loaded again for each tile.
        moved += 3 * tokens * g.hidden_words * (g.tiles(g.hidden_words) if choice.split else 1)
    if "query" not in resident:
        moved += 4 * tokens * g.context_words
    steps = ceil_div(g.tiles(g.hidden_words), max(1, config.half_words // block)) * (1 + choice.apart)
    if "hidden" in choice.streamed:
        moved += steps * tokens * g.ffn_words
    if "rows" in choice.streamed:
        ffn_steps = ceil_div(g.tiles(g.ffn_words), max(1, config.half_words // block))
        moved += steps * tokens * g.context_words + ffn_steps * tokens * g.hidden_words
    moved += sum(tokens * g.context_words for name in ("key", "value") if name not in resident)
    bus = moved * _cycles_of_a_word(config)
    loads = panels * project * _cycles_of_a_word(config)
    if choice.split:
        pieces = 3 * tokens * g.hidden_words * g.tiles(g.hidden_words)
        loads += pieces * _cycles_of_a_word(config, _panel_piece(layer))
    norm = block * g.groups(g.hidden_words) + 60
    exposed = 4 * norm if blocks == 1 else 2 * max(0, 2 * norm - (tokens - block) * words["output"] // cols)
    if choice.streamed:  # a phase has no loads of another's to hide
        hidden_loads = panel_rows * project / cols
        array += max(0.0, loads - hidden_loads)
    return max(array + exposed, bus) + 0.1 * min(array, bus) + 1e-3 * (blocks + panels)


def value_tiles(geometry: Geometry, sentence: Sentence) -> int:
    """Column tiles of tokens for which there must be values before those of ``sentence`` are weighted."""
    g = geometry
    return ceil_div(g.tiles(sentence.window // g.config.rows + sentence.window_words), g.tile_step) * g.tile_step


def _take_turns(geometry: Geometry, group: Group, layer: LayerImage, unit: int) -> bool:
    """Whether the values of a head are made while the vector engine does the softmax of another: where that takes
    longer than the products of a unit. Units are whole heads of a sentence, and the channels of a head rows enough
    for the array, which begin at a whole beat; scores, values and weighted values lie in one accumulator half."""
    g, config = geometry, geometry.config
    if any(unit < s.length for s in group.sentences) or g.heads < 2 or layer.weights["value"].pieces > 1:
        return False
    if g.head < config.cols or 2 * unit + g.head + config.bus_bytes > config.row_entries:
        return False
    if g.head % g.aligned_rows(layer.weights["value"].row_words):
        return False
    most = max(g.tiles(s.window_words) for s in group.sentences)
    ends = [0, *(value_tiles(g, s) for s in group.sentences)]
    share = max(end - start for start, end in pairwise(ends))
    if unit * (most + g.tiles(g.head_words)) + g.head * share > config.half_words:
        return False
    waits = 0
    for sentence in group.sentences:
        vector, array = _attention_cycles(g, sentence, sentence.length)
        waits += vector - array
    return (g.heads - 1) * waits > 2 * _SOFTMAX_OVERHEAD


def _attention_cycles(geometry: Geometry, sentence: Sentence, unit: int) -> tuple[int, int]:
    """Cycles of the vector engine, and of the array, for a unit of ``unit`` rows."""
    g = geometry
    high = max(unit, _group_latency(g.config))
    vector = high * (2 * g.groups(sentence.window_words) + g.groups(g.head_words)) + _SOFTMAX_OVERHEAD
    tiles = g.tiles(sentence.window_words) * g.head_words + g.tiles(g.head_words) * sentence.window_words
    return vector, max(unit, g.config.cols) * tiles


def _choices(
    geometry: Geometry, group: Group, layer: LayerImage, only_apart: bool | None, streamed: frozenset[str]
) -> Iterator[Choice]:
    g, config = geometry, geometry.config
    most_unit = unit_limit(g, group, streamed)
    longest = max(s.length for s in group.sentences)
    in_chunks = [] if "heads" in streamed else list(_chunks(g, group))
    if most_unit < 1 and not in_chunks:
        return
    fused, apart = (block_limit(g, group, apart) for apart in (False, True))
    blocks: list[tuple[int, bool]] = []
    if fused and only_apart is not True:
        blocks += [(rows, False) for rows in _splits(group.tokens, fused)]
    if only_apart or (only_apart is None and fused < group.tokens):
        blocks += [(rows, True) for rows in _splits(group.tokens, apart) if only_apart or rows > fused]
    step = max(g.beat_bytes, config.cols)
    panels = sorted(
        {min(group.tokens, ceil_div(p, step) * step) for p in _splits(group.tokens, group.tokens)}
    )
    units = sorted({ceil_div(longest, ceil_div(longest, max(1, most_unit >> i))) for i in range(12)})
    units = units if most_unit > 0 else []
    window = max(s.window_words for s in group.sentences)
    # What streams lives in DRAM.
    spilled = set(_TENSORS if "heads" in streamed else _TENSORS[:2] if "rows" in streamed else ())
    candidates = [name for name in _TENSORS if name not in spilled]
    for size, small in product(range(len(_TENSORS), -1, -1), (False, True)):
        # Spilled keys and values come whole where there is room, else in the smallest pieces.
        pieces = (1, g.beat_bytes // config.rows) if small else (g.tiles(window), window)
        if "heads" in streamed and not small:
            continue
        for subset in combinations(candidates, size):
            resident = frozenset(subset)
            on_chip = {"key", "value"} <= resident
            if small and on_chip:
                continue
            some_panels = [group.tokens] if "stream" in resident else panels
            several = (2, 1) if small or (on_chip and size < len(_TENSORS)) else (2,)
            for slots in (1,) if "heads" in streamed else several:
                in_pieces = "stream" not in resident and layer.weights["query"].pieces > 1
                for (block, is_apart), panel, unit in product(blocks, some_panels, units):
                    for split in (False, True) if in_pieces else (False,):
                        turns = "value" in resident and slots > 1 and panel >= group.tokens and not split
                        turns = turns and _take_turns(g, group, layer, unit)
                        yield Choice(resident, block, panel, unit, slots, *pieces, is_apart, split, turns, streamed)
            if small or on_chip:
                for (block, is_apart), panel, (tiles, unit) in product(blocks, some_panels, in_chunks):
                    for split in (False, True) if in_pieces else (False,):
                        words = tiles * config.cols // config.rows
                        most = config.scratchpad_words // (8 * g.tiles(g.head_words) * config.cols)
                        while words > max(most, g.beat_bytes // config.rows):
                            words //= 2
                        yield Choice(
                            resident, block, panel, unit, 1, tiles, words, is_apart, split, False, streamed, tiles)


def _slowdown(choice: Choice, ring: int, useful: int, plenty: int) -> float:
    """How much engines wait for each other when the ring is small, or a tensor has a single slot: a guess."""
    thresholds = ((plenty, 1.0), ((useful + plenty) // 2, 1.02), (useful, 1.05))
    factor = next((factor for enough, factor in thresholds if ring >= enough), 1.5)
    return factor if choice.slots > 1 else factor * 1.02


def _wastes_array(geometry: Geometry, group: Group, ring: int) -> bool:
    """Whether a block has fewer rows than the array has columns, beside a ring of ``ring`` words, unless something is
    streamed."""
    g, config = geometry, geometry.config
    rows = min(config.cols, group.tokens)
    blocks = min(2, ceil_div(group.tokens, rows))
    block = rows * (g.context_words + blocks * g.hidden_words + g.ffn_words)
    return group.mask_words + block + ring > config.scratchpad_words


def _spread(plan: Plan, config: AcceleratorConfig, keep: int, plenty: int) -> Plan:
    """Place the regions of ``plan`` once more, so that as little as possible of what is read together lies in one bank,
    and ``keep`` words of the ring are left.

    If ``plenty`` are left, the ring begins in a bank of its own, and parameters get another, since the weights in the
    ring are read in every cycle of a short tile."""
    regions = [region for several in plan.regions.values() for region in several]
    total, bank = config.scratchpad_words, config.bank_words
    together: list[tuple[str, str]] = []
    for kinds in _READ_TOGETHER:
        if pack(regions, bank, [*together, kinds]) <= total - keep:
            together.append(kinds)
    used = pack(regions, bank, together)
    aligned = ceil_div(used, bank) * bank
    plan.parameter_words = bank if aligned + bank + plenty <= total else 0
    plan.ring_start = aligned + plan.parameter_words if aligned + plenty <= total else used
    plan.ring_words = total - plan.ring_start
    return plan


def plans(
    image: ModelImage,
    group: Group,
    choice: Choice | None = None,
    apart: bool | None = None,
    streaming: bool = False,
) -> Iterator[Plan]:
    """Plans for ``group``, the most promising first; only that of ``choice``, if given, else only those that are
    ``apart`` or are not. Those that stream something are among them where ``streaming`` is allowed, or where all others
    would waste the array.

    Raises
    ------
    CompileError
        When the scores of a row do not fit the accumulators.
    """
    g, config, layer = image.geometry, image.geometry.config, image.layers[0]
    least, useful, plenty = _ring_needs(g, layer)
    levels = _STREAMED if streaming or _wastes_array(g, group, useful) else _STREAMED[:1]
    possible = [choice] if choice else [c for level in levels for c in _choices(g, group, layer, apart, level)]
    if not possible:
        longest = max(s.length for s in group.sentences)
        raise CompileError(
            f"the scores of {longest} tokens must fit {config.half_words} accumulator words of {config.cols} columns"
        )
    ranked = sorted(
        ((_cost(g, group, layer, choice), index, choice) for index, choice in enumerate(possible)),
        key=lambda item: item[:2],
    )
    waiting: list[tuple[float, int, Plan, int]] = []

    def next_plan() -> Plan:
        *_, plan, keep = heappop(waiting)
        return _spread(plan, config, keep, plenty)

    for cost, index, choice in ranked:
        while waiting and waiting[0][0] <= cost:
            yield next_plan()
        needed = max(least, _streamed_words(g, layer, choice))
        hidden = 0 if "hidden" in choice.streamed else choice.block * g.ffn_words
        if hidden + needed > config.scratchpad_words:
            continue
        regions = _regions(g, group, layer, choice)
        used = pack([region for several in regions.values() for region in several])
        if used + needed > config.scratchpad_words:
            continue
        ring = config.scratchpad_words - used
        plan = Plan(group, choice, cost, regions)
        cost *= _slowdown(choice, ring, useful, plenty)
        cost *= 1.5 if choice.streamed and ring < 2 * needed else 1.0  # the next piece waits for the room of this one
        keep = max(needed, min(plenty, ring - ring // 8))
        heappush(waiting, (cost, index, plan, keep))
    while waiting:
        yield next_plan()
