"""The schedule of a group of sentences through all layers, in a valid sequential order.

A layer is three phases. *Project*: queries, keys and transposed values; the queries of the first block of
rows come first, so that the last LayerNorm of the layer before hides under them. *Attend*: see
:mod:`~celosia.firmware.compiler.attention`; it begins before the last step of the values. *Transform*: output
projection, LayerNorm and FFN in blocks of rows; the projection of block b + 1 comes before the FFN of block
b, so that each LayerNorm hides under a product of another block. Where there is one block, the next product takes up
the parts of its rows as LayerNorm makes them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from ...hdl.isa import Function
from ...hdl.vector.issuer import group_cycles
from ..machine.geometry import even_parts
from ..machine.layout import ModelImage
from ..machine.memory import Phase
from .attention import AttentionScheduler, AttentionTensors
from .linear import LinearScheduler, Part, Step
from .planner import Plan
from .recorder import DramArray, Recorder, View
from .tensors import Pieces, Rows, Tensor

__all__ = ["GroupScheduler", "Homes"]

#: Cycles in which an instruction of the vector engine starts up, and ends, at most.
_START_UP = 60


class Homes:
    """Where tensors lie in DRAM.

    Parameters
    ----------
    arrays
        By name: ``("stream", layer)`` is the input of a layer, the encoder's output for the layer behind the
        last; ``("numerators", layer, sentence)``; ``("value_transposed", layer, first row of the group)``;
        any other ``(tensor, layer)``.
    base
        Address of the model's image.
    mask
        Address of the mask bytes.
    """

    def __init__(self, arrays: Mapping[tuple[object, ...], DramArray], base: int, mask: int):
        self.arrays = arrays
        self.base = base
        self.mask = mask

    def get(self, *key: object) -> DramArray | None:
        """The home called ``key``; None when the tensor needs none."""
        return self.arrays.get(key)


class GroupScheduler:
    """Records the program of one group."""

    def __init__(self, image: ModelImage, plan: Plan, recorder: Recorder, homes: Homes):
        self._image = image
        self._g = image.geometry
        self._plan = plan
        self._group = plan.group
        self._recorder = recorder
        self._homes = homes
        self._linear = LinearScheduler(self._g, recorder, homes.base, plan.ring_words, plan.step_words)
        self._layer = 0
        self._blocks = even_parts(self._group.tokens, plan.choice.block)

    def run(self) -> None:
        """Record every layer."""
        g, group, homes = self._g, self._group, self._homes
        mask = self._mask()
        stays = self._plan.regions["mask"][0].phases is Phase.ALL
        if stays:
            mask.read(0, 1, 0, group.mask_words)
        if "stream" in self._plan.choice.resident:
            region, home = self._plan.regions["stream"][0], homes.arrays["stream", 0]
            for first, end in self._blocks:
                self._recorder.fetch(
                    region,
                    home,
                    (group.row + first, group.row + end),
                    0,
                    g.hidden_words,
                    f"input rows {first} to {end - 1}",
                    row=first,
                )
        ready: list[Part] = []
        for layer, image in enumerate(self._image.layers):
            self._layer = layer
            self._linear.layer, self._linear.label = image, f"layer {layer}"
            ready = self._run_layer(mask if stays else self._mask(), ready)

    def _mask(self) -> Tensor:
        """The mask of the group, loaded when it is read first."""
        g, group = self._g, self._group
        address = self._homes.mask + group.mask_row * g.config.word_bytes
        home = DramArray(address, g.row_bytes(group.mask_words), 1, group.mask_words)
        return Tensor(self._recorder, "mask", group.mask_words, slots=self._plan.regions["mask"], home=home)

    def _tensor(
        self, name: str, words: int, place: str, slots: str, home: DramArray | None, base_row: int = 0
    ) -> Tensor:
        """A tensor of this layer, in region ``place`` if the plan keeps it on chip."""
        region = self._plan.regions[place][0] if place in self._plan.choice.resident else None
        return Tensor(
            self._recorder,
            f"layer {self._layer} {name}",
            words,
            region,
            self._plan.regions.get(slots, []),
            home,
            base_row,
        )

    def _run_layer(self, mask: Tensor, ready: list[Part]) -> list[Part]:
        """Record a layer. ``ready`` are the parts of its input in the order in which they are made, if they may still
        be in the making; returns those of its output."""
        g, layer, homes, row = self._g, self._layer, self._homes, self._group.row
        width = g.context_words
        query = self._tensor("query", width, "query", "query slot", homes.get("query", layer), row)
        key = self._tensor("key", width, "key", "key slot", homes.get("key", layer), row)
        value = self._tensor(
            "value_transposed",
            g.words(self._group.tokens),
            "value",
            "value slot",
            homes.get("value_transposed", layer, row),
        )
        value.period = g.head if self._plan.choice.turns else 0
        context = self._tensor("context", width, "query", "context slot", homes.get("context", layer), row)
        kept = {
            s.index: home
            for s in self._group.sentences
            if (home := homes.get("numerators", layer, s.index)) is not None
        }
        attention = AttentionScheduler(
            self._linear,
            self._plan,
            AttentionTensors(query, key, value, context, self._plan.regions["numerators"], mask, kept),
        )
        self._project(query, key, value, attention, ready)
        if not self._plan.choice.turns:
            attention.finish()
        return self._transform(context)

    def _stream(self, slots: str) -> Tensor:
        """The residual stream, the input of this layer."""
        home = self._homes.get("stream", self._layer)
        return self._tensor("stream", self._g.hidden_words, "stream", slots, home, self._group.row)

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, attention: AttentionScheduler, ready: list[Part]
    ) -> None:
        g, linear, tokens = self._g, self._linear, self._group.tokens
        stream = self._stream("panel")
        for first in range(0, tokens, self._plan.choice.panel):
            end = min(first + self._plan.choice.panel, tokens)
            panel = (Pieces(stream, first, end, linear.weight("query").piece_words) if self._plan.choice.split else
                     stream.read(first, end, 0, g.hidden_words))
            cuts = {first, end, *(cut for block in self._blocks[:1] for cut in block if first < cut < end)}
            self._linear_layer("query", panel, first, sorted(cuts), query, ready)
            self._linear_layer("key", panel, first, [first, end], key, tapered=self._plan.choice.turns)
            start = g.words(first)

            def write(
                channel: int,
                count: int,
                word: int,
                words: int,
                accumulator: int,
                row: int,
                start: int = start,
            ) -> None:
                target = value.target(channel, channel + count, start + word, words)
                self._recorder.vector(
                    Function.ROW_REQUANTISE,
                    accumulator,
                    count,
                    g.groups(words),
                    destination=target,
                    row=row,
                    comment=f"layer {self._layer} value_transposed channel {channel}",
                )
                value.written(target, channel, channel + count, start + word, words)

            if self._plan.choice.turns:
                assert isinstance(panel, View)

                def project(
                    head: int, tile: int, tiles: int, accumulator: int, x: View = panel
                ) -> Callable[[], None]:
                    words = min(g.words(tokens), (tile + tiles) * g.config.cols // g.config.rows)
                    words -= tile * g.config.cols // g.config.rows
                    return linear.transposed_part("value", x, head * g.head, g.head, tile, words, accumulator, write)

                attention.interleave(project)
                return
            steps = list(linear.transposed("value", panel, end - first, write))
            for step in steps[:-1]:
                step()
            if end == tokens and self._plan.choice.overlap:
                attention.begin()
            steps[-1]()
        if not self._plan.choice.overlap:
            attention.begin()

    def _linear_layer(
        self, name: str, panel: View | Pieces, base: int, cuts: list[int], result: Tensor,
        ready: Sequence[Part] = (), tapered: bool = False,
    ) -> None:
        """Requantised products of the rows of ``panel`` (its row 0 is row ``base``), cut at ``cuts``. ``ready`` are
        their parts in the order in which they are made, if they may still be in the making."""
        g, linear = self._g, self._linear
        weight, words, limit = linear.weight(name), g.context_words, linear.row_limit(result.region is None)
        bounds = [row for low, high in pairwise(cuts) for row in range(low, high, limit)] + [cuts[-1]]
        for first, end in pairwise(bounds):
            m = end - first
            if tapered and m * g.tiles(words) <= g.config.half_words:
                steps = linear.tapered(weight, m, words, Function.REQUANTISE)
            else:
                steps = list(linear.steps(
                    weight, m, words, False, g.config.parameter_words, result.region is None))
            for step in steps:
                parts = ready if first == base and step.tile == 0 else ()
                linear.product(name, panel.from_row(first - base), m, step, parts, step.tiles)
                target = result.target(first, end, step.word, step.words)
                self._recorder.vector(
                    Function.REQUANTISE,
                    step.accumulator,
                    m,
                    g.groups(step.words),
                    parameters=linear.parameters(name, step.word, step.words),
                    destination=target,
                    comment=f"layer {self._layer} {name} rows {first} to {end - 1}",
                )
                result.written(target, first, end, step.word, step.words)

    def _transform(self, context: Tensor) -> list[Part]:
        """Output projection and FFN; returns the parts of the last block's rows in the order in which they are
        made."""
        stream, ready = self._stream("block"), list[Part]()
        projected = {0: self._project_output(stream, context, *self._blocks[0])}
        for index, block in enumerate(self._blocks):
            if index + 1 < len(self._blocks):
                projected[index + 1] = self._project_output(stream, context, *self._blocks[index + 1])
            ready = self._feed_forward(*projected.pop(index), *block)
        return ready

    def _rows(self, name: str, first: int, end: int, view: View | None, layer: int | None = None) -> Rows:
        """Rows of a tensor of this layer, or of ``layer``, that is one of those of the residual stream."""
        home = self._homes.get(name, self._layer if layer is None else layer)
        label = f"layer {self._layer} {name}"
        tensor = Tensor(self._recorder, label, self._g.hidden_words, home=home, base_row=self._group.row)
        return Rows(tensor, first, end, view)

    def _project_output(
        self, stream: Tensor, context: Tensor, first: int, end: int
    ) -> tuple[View | None, list[Part]]:
        """Output projection, residual and LayerNorm of a block, in place of its rows of the stream where they lie in
        the scratchpad; returns those, and their parts in the order in which they are made."""
        g = self._g
        view: View | None = None
        operand: View | Pieces
        if "rows" in self._plan.choice.streamed:
            operand = Pieces(context, first, end, self._linear.weight("output").piece_words)
        else:
            operand = context.read(first, end, 0, g.context_words)
            view = stream.read(first, end, 0, g.hidden_words)
        source, result = (self._rows(name, first, end, view) for name in ("stream", "attention_norm"))
        return view, self._normalised("output", "attention_norm", operand, source, result, g.head_words)

    def _feed_forward(self, view: View | None, ready: list[Part], first: int, end: int) -> list[Part]:
        """FFN, residual and LayerNorm of a block, in place of its rows of the stream where they lie in the scratchpad,
        in ``view``; they are made in the parts ``ready``. Returns those of the result."""
        g, linear, m = self._g, self._linear, end - first
        streamed = "hidden" in self._plan.choice.streamed
        source = self._rows("attention_norm", first, end, view)
        result = self._rows("stream", first, end, view, self._layer + 1)
        home = self._homes.get("ffn_hidden", self._layer)
        label = f"layer {self._layer} ffn_hidden"
        tensor = Tensor(self._recorder, label, g.ffn_words, home=home, base_row=self._group.row)
        hidden = Rows(tensor, first, end, None if streamed else View(self._plan.regions["hidden"][0], 0, g.ffn_words))
        operand = source.operand(linear.weight("ffn_in").piece_words)
        step_words = 0
        for step in linear.steps(
            linear.weight("ffn_in"), m, g.ffn_words, False, 2 * g.config.parameter_words, streamed
        ):
            linear.product("ffn_in", operand, m, step, ready if step.tile == 0 else (), step.tiles)
            target = hidden.target(step.word, step.words)
            self._recorder.vector(
                Function.GELU,
                step.accumulator,
                m,
                g.groups(step.words),
                parameters=linear.parameters("ffn_in", step.word, step.words),
                destination=target,
                comment=f"{label} rows {first} to {end - 1}",
            )
            hidden.written(target, step.word, step.words)
            step_words = step.words
        hidden.finish()
        operand = hidden.operand(linear.weight("ffn_out").piece_words)
        return self._normalised("ffn_out", "output_norm", operand, source, result, step_words)

    def _normalised(
        self, name: str, norm: str, a: View | Pieces, source: Rows, result: Rows, late: int
    ) -> list[Part]:
        """LayerNorm(source + a . W^T) to ``result``; the last ``late`` words of the rows of ``a`` may still be in the
        making. Returns the parts of the result in the order in which they are made, where there is no other block under
        which LayerNorm hides.

        Where a row's sums stay in the accumulators until its statistics are known, they are computed once (fused);
        else a first pass finds the statistics, and a second one computes the sums again and normalises them."""
        g, linear, m = self._g, self._linear, source.end - source.first
        words, apart, staged = g.hidden_words, self._plan.choice.apart, source.view is None
        split = len(self._blocks) == 1 and not apart and not staged
        rest = f"rows {source.first} to {source.end - 1}"
        early = linear.weight(name).k_words - late
        parts = [(0, early), (early, late)] if late and early > 0 else []

        def steps() -> list[Step]:
            if split:
                return linear.tapered(linear.weight(name), m, words, Function.RESIDUAL)
            return list(linear.steps(linear.weight(name), m, words, not apart, 3 * g.config.parameter_words, staged))

        seen = 0  # words of the rows whose statistics are begun

        def residual(part: Step, final: bool) -> None:
            nonlocal seen
            mean = self._image.mean
            seen += part.words
            self._recorder.vector(
                Function.RESIDUAL,
                part.accumulator,
                m,
                g.groups(part.words),
                parameters=linear.parameters(name, part.word, part.words),
                operand=source.read(part.word, part.words),
                multiplier=mean.multiplier,
                shift=mean.shift,
                continues=seen > part.words,
                unfinished=not final or seen < words,
                comment=f"layer {self._layer} {name} {rest}",
            )

        def normalise(part: Step) -> None:
            target = result.target(part.word, part.words)
            self._recorder.vector(
                Function.LAYER_NORM,
                part.accumulator,
                m,
                g.groups(part.words),
                parameters=linear.parameters(norm, part.word, part.words),
                destination=target,
                comment=f"layer {self._layer} {norm} {rest}",
            )
            result.written(target, part.word, part.words)

        made: list[Step] = []
        for step in steps():
            linear.product(name, a, m, step, parts if step.tile == 0 else (), 1)
            # The last part first: before its products are there, the array does not give the half back.
            for part in reversed(list(linear.parts(step, m, 2, staged))):
                residual(part, final=True)
            made.append(step)
        if split and len(made) > 1:
            linear.next_half()  # the next product begins in the half that is normalised first
        ready: list[Part] = []
        for step in [] if apart else linear.growing(made, m) if split else made:
            for part in linear.parts(step, m, 1, staged):
                normalise(part)
                ready.append((part.word, part.words))
        seen = 0
        for step in steps() if apart else []:
            linear.product(name, a, m, step)
            for part in reversed(list(linear.parts(step, m, 2, staged))):
                residual(part, final=False)
            for part in linear.parts(step, m, 1, staged):
                normalise(part)
        result.finish()
        if not split:
            linear.owed = 2 * (group_cycles(g.config, Function.LAYER_NORM, m) * g.groups(made[-1].words) + _START_UP)
        return ready if split else []
