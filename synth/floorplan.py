"""Where the multipliers and block RAMs of an accelerator lie on an ECP5.

A placer looks for a place for each of them alone, and leaves the neighbours of the array far apart. Here the array
is folded into the rows of multipliers, with the accumulators below its last row, the vector lanes below those, and the
scratchpad amid the array, near its first columns, which take what is read. Everything else is the placer's.
"""

from dataclasses import dataclass
from math import ceil

from celosia.hdl.config import AcceleratorConfig

from .families import Part

__all__ = ["floorplan", "placement_commands"]

#: Multipliers, and block RAMs, of a block.
_BLOCK = 4
#: Offsets of a block's multipliers and block RAMs from its first column, and the names of their places.
_MULTIPLIERS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_RAMS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))
#: Words of a block RAM, and bits of each.
_RAM_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


@dataclass(frozen=True)
class _Block:
    """Four multipliers, or four block RAMs, side by side."""

    x: int
    y: int

    def multiplier(self, index: int) -> str:
        offset, name = _MULTIPLIERS[index]
        return f"X{self.x + offset}/Y{self.y}/{name}"

    def ram(self, index: int) -> str:
        offset, name = _RAMS[index]
        return f"X{self.x + offset}/Y{self.y}/{name}"


def floorplan(config: AcceleratorConfig, part: Part) -> dict[str, str]:
    """The place of each cell that has one, by the end of the cell's hierarchical name.

    What finds no room is left to the placer: all lanes, or a whole memory.
    """
    blocks = [[_Block(x, y) for x in part.block_columns] for y in part.multiplier_rows]
    # Rows of PEs come in pairs, since a block has enables for two of a column, and these pairs in bands.
    pairs, columns = config.rows // 2, config.cols // config.macs_per_multiplier // 2
    bands = next((count for count in range(2, len(blocks) + 1)
                  if ceil(pairs / count) * columns <= len(part.block_columns)), None)
    if bands is None:
        return {}
    height = ceil(pairs / bands)
    places = {}
    for row in range(config.rows):
        for group in range(2 * columns):
            band, pair = divmod(row // 2, height)
            block = blocks[band][group // 2 * height + pair]
            name = f"rows_{row // config.rows_per_sum}.multiplier_{row % config.rows_per_sum}_{group}"
            places[f"matmul.array.{name}"] = block.multiplier(row % 2 + 2 * (group % 2))
    width = columns * height  # blocks that a band takes
    used = [min(height, pairs - band * height) for band in range(bands)]
    free = [block for band, row in enumerate(blocks) for index, block in enumerate(row)
            if band >= bands or index >= width or index % height >= used[band]]
    places |= _lanes(config, sorted(free, key=lambda block: (block.y, abs(block.x - blocks[0][width // 2].x))))

    accumulators = [f"accumulators.half_{half}.words.content.0.{index}"
                    for index in range(_rams(32 * config.cols, config.half_words, config.cols // config.lanes))
                    for half in range(2)]
    banks = [f"scratchpad.bank_{bank}.words.content.0.{index}"
             for index in range(_rams(8 * config.rows, config.bank_words, config.rows // config.lanes))
             for bank in range(config.scratchpad_banks)]
    rows = part.multiplier_rows[:bands]
    below = sorted(part.ram_rows, key=lambda row: (abs(row - rows[-1]), row))
    amid = sorted(part.ram_rows, key=lambda row: (row == below[0], abs(row - sum(rows) / bands)))
    for names, near, wide in ((accumulators, below, width), (banks, amid, ceil(len(banks) / _BLOCK))):
        places |= _spread(names, near, part.block_columns, wide, set(places.values()))
    return places


def _lanes(config: AcceleratorConfig, free: list[_Block]) -> dict[str, str]:
    """The four multipliers of a lane share a block; those of the row unit lie amid the lanes."""
    chosen = sorted(free[:config.lanes + 2], key=lambda block: block.x)
    if len(chosen) < config.lanes + 2:
        return {}
    middle = len(chosen) // 2
    unit, lanes = chosen[middle - 1:middle + 1], chosen[:middle - 1] + chosen[middle + 1:]
    places = {}
    for lane, block in enumerate(lanes):
        for index, name in enumerate((f"first_scale_{lane}.multiplier_low", f"first_scale_{lane}.multiplier_high",
                                      f"second_scale_{lane}.multiplier_product", f"multiplier_square_{lane}")):
            places[f"vector.{name}"] = block.multiplier(index)
    for block, names in zip(unit, (("by_count_low_1", "by_count_high_1", "fall_16"),
                                   ("lows_6", "highs_6", "cross_0_6", "cross_1_6")), strict=True):
        for index, name in enumerate(names):
            places[f"vector.row_unit.multiplier_{name}"] = block.multiplier(index)
    return places


def _rams(width: int, words: int, slices: int) -> int:
    """Block RAMs of a memory of ``words`` words; each of its ``slices`` has block RAMs of its own."""
    bits = next((bits for depth, bits in _RAM_SHAPES if words <= depth), 1)
    return slices * ceil(width / slices / bits)


def _spread(names: list[str], rows: list[int], columns: tuple[int, ...], width: int, taken: set[str]) -> dict[str, str]:
    """The names evenly, in their order, over the block RAMs of the first row and the first ``width`` blocks; of the
    whole row, or of more rows, when they are too many; nothing when they still are."""
    for count, end in ((1, width), *((count, len(columns)) for count in range(1, len(rows) + 1))):
        sites = [_Block(x, y).ram(index) for y in rows[:count] for x in columns[:end] for index in range(_BLOCK)]
        free = [site for site in sites if site not in taken]
        if len(names) <= len(free) and (count > 1 or len(free) == len(sites)):
            return {name: free[index * len(free) // len(names)] for index, name in enumerate(names)}
    return {}


def placement_commands(places: dict[str, str]) -> list[str]:
    """Yosys' commands that give each cell its place."""
    return [f'setattr -set BEL "{place}" c:*{name}' for name, place in places.items()]
