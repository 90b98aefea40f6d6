"""The parameters of one accelerator: a validated value object from which everything else is derived."""

import re
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

__all__ = ["AcceleratorConfig", "ConfigError"]


#: Rows that share a register of sums, and columns one of activations, where multipliers are made of gates.
_SHARED = 8


class ConfigError(ValueError):
    """A parameter is unknown, of the wrong type or out of its range. The message names value and rule."""


def _parameter(default: Any, unit: str, rule: str, doc: str) -> Any:
    return field(default=default, metadata={"unit": unit, "rule": rule, "doc": doc})


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class AcceleratorConfig:
    """Parameters of an accelerator.

    Every parameter is an ``int`` except ``name``, ``status`` and ``target``; unit, rule and meaning stand in the
    field's metadata, from which the documents and the error messages are made.

    Raises
    ------
    ConfigError
        When a value breaks its rule. The message reads ``<name> must be <rule>, not <value>``.
    """

    name: str = _parameter("custom", "", "a word of ASCII letters, digits, '-' and '_'", "name of the configuration")
    status: str = _parameter("experimental", "", "'verified' or 'experimental'", "whether the regressions run it")
    target: str = _parameter(
        "generic", "", "'generic', 'ecp5' or 'xilinx'", "how PEs and memories are mapped; the results are the same")
    rows: int = _parameter(16, "PEs", "a power of two from 4 to 64", "rows of the array (reduction, K)")
    cols: int = _parameter(16, "PEs", "a power of two from 4 to 64", "columns of the array (outputs, N)")
    macs_per_multiplier: int = _parameter(
        1, "MACs", "1 or 2", "PEs that share a hardware multiplier; 2 where multipliers are scarcer than logic")
    rows_per_sum: int = _parameter(
        0, "rows", "a power of two up to rows, or 0 for what suits the target",
        "rows whose products are added up in one cycle; 0 is 8, or all, where multipliers are made of gates, else 1")
    columns_per_activation: int = _parameter(
        0, "columns", "a power of two from macs_per_multiplier to cols, or 0 for what suits the target",
        "columns that take an activation in the same cycle; 0 is 8, or all, where multipliers are made of gates, "
        "else macs_per_multiplier")
    weight_latches: int = _parameter(
        0, "", "0, or 1 with rows_per_sum from 2, one MAC a multiplier and the target 'generic'",
        "1 keeps the next tile's weights and the active ones in latches: smaller on an ASIC")
    lanes: int = _parameter(
        0, "lanes", "a power of two from 4 to min(rows, cols), or 0 for min(rows, cols)",
        "lanes of the vector engine; a scratchpad word of `rows` bytes takes at most `rows` results a cycle")
    scratchpad_kib: int = _parameter(
        256, "KiB", "a power of two from 16 to 1024, and at most 65536 words of `rows` bytes", "scratchpad size")
    scratchpad_banks: int = _parameter(
        8, "banks", "a power of two from 2 to 16", "scratchpad banks, each with one read and one write port")
    accumulator_kib: int = _parameter(
        256, "KiB", "a power of two from 16 to 1024", "size of the two accumulator halves together")
    bus_bits: int = _parameter(128, "bits", "64, 128 or 256", "width of the AXI4 memory bus")
    address_bits: int = _parameter(32, "bits", "from 32 to 48", "width of an AXI4 address")
    outstanding_reads: int = _parameter(
        8, "bursts", "a power of two from 1 to 16", "read bursts in flight on the memory bus")
    queue_depth: int = _parameter(
        4, "instructions", "a power of two from 2 to 64", "depth of the instruction queue of every engine but load")
    load_queue_depth: int = _parameter(
        16, "instructions", "a power of two from 2 to 64",
        "depth of the load engine's instruction queue: how far loads run ahead of what they are for")
    row_entries: int = _parameter(
        512, "rows", "a power of two from 64 to 1024",
        "entries of the row table: rows whose softmax or LayerNorm statistics are alive at once")
    max_k: int = _parameter(
        4096, "elements", "a power of two from 64 to 32768",
        "longest reduction; 32768 * 255 * 127 + 2**30 still fits an int32 accumulator")
    max_n: int = _parameter(
        4096, "elements", "a power of two from 64 to 32768", "widest row of a LayerNorm, bounds its sums")
    max_tokens: int = _parameter(512, "tokens", "a power of two from 16 to 4096", "longest sequence")
    counter_bits: int = _parameter(
        40, "bits", "from 32 to 64", "width of a performance counter, which stops when its highest bit is set")

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            wanted = str if isinstance(spec.default, str) else int
            if type(value) is not wanted:
                raise ConfigError(f"{spec.name} must be {spec.metadata['rule']}, not {value!r}")
        if self.lanes == 0:
            object.__setattr__(self, "lanes", min(self.rows, self.cols))
        if self.rows_per_sum == 0:
            gates = self.target == "generic" and self.macs_per_multiplier == 1
            object.__setattr__(self, "rows_per_sum", min(_SHARED, self.rows) if gates else 1)
        if self.columns_per_activation == 0:
            columns = min(_SHARED, self.cols) if self.fused else self.macs_per_multiplier
            object.__setattr__(self, "columns_per_activation", columns)
        self._check("name", re.fullmatch("[A-Za-z0-9_-]+", self.name) is not None)
        self._check("status", self.status in ("verified", "experimental"))
        self._check("target", self.target in ("generic", "ecp5", "xilinx"))
        self._check("macs_per_multiplier", self.macs_per_multiplier in (1, 2))
        for name, low, high in [
            ("rows", 4, 64), ("cols", 4, 64), ("scratchpad_kib", 16, 1024), ("scratchpad_banks", 2, 16),
            ("accumulator_kib", 16, 1024), ("outstanding_reads", 1, 16), ("queue_depth", 2, 64),
            ("load_queue_depth", 2, 64), ("row_entries", 64, 1024), ("max_k", 64, 32768), ("max_n", 64, 32768),
            ("max_tokens", 16, 4096),
        ]:
            value = getattr(self, name)
            self._check(name, _is_power_of_two(value) and low <= value <= high)
        self._check("rows_per_sum", _is_power_of_two(self.rows_per_sum) and self.rows_per_sum <= self.rows)
        self._check("columns_per_activation", _is_power_of_two(self.columns_per_activation)
                    and self.macs_per_multiplier <= self.columns_per_activation <= self.cols)
        self._check("weight_latches", self.weight_latches in range(1 + self.fused))
        self._check("lanes", _is_power_of_two(self.lanes) and 4 <= self.lanes <= min(self.rows, self.cols))
        self._check("scratchpad_kib", self.scratchpad_words <= 65536)
        self._check("bus_bits", self.bus_bits in (64, 128, 256))
        self._check("address_bits", 32 <= self.address_bits <= 48)
        self._check("counter_bits", 32 <= self.counter_bits <= 64)

    def _check(self, name: str, holds: bool) -> None:
        if not holds:
            rule = next(spec.metadata["rule"] for spec in fields(self) if spec.name == name)
            raise ConfigError(f"{name} must be {rule}, not {getattr(self, name)!r}")

    @property
    def word_bytes(self) -> int:
        """Bytes of a scratchpad word: one vector of ``rows`` int8 values."""
        return self.rows

    @property
    def scratchpad_words(self) -> int:
        """Words of ``rows`` bytes in the whole scratchpad. Bank ``b`` holds words
        ``b * bank_words`` to ``(b + 1) * bank_words - 1``."""
        return self.scratchpad_kib * 1024 // self.rows

    @property
    def bank_words(self) -> int:
        """Words in one scratchpad bank."""
        return self.scratchpad_words // self.scratchpad_banks

    @property
    def accumulator_words(self) -> int:
        """Words of ``cols`` int32 accumulators, both halves. The second half starts at ``half_words``."""
        return self.accumulator_kib * 1024 // (4 * self.cols)

    @property
    def half_words(self) -> int:
        """Words in one accumulator half."""
        return self.accumulator_words // 2

    @property
    def bus_bytes(self) -> int:
        """Bytes that a beat of the memory bus carries."""
        return self.bus_bits // 8

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates that the array can do in a cycle."""
        return self.rows * self.cols

    @property
    def parameter_words(self) -> int:
        """Scratchpad words of one parameter record (8 bytes a column) for a group of ``lanes`` columns;
        a group's record starts at a word of its own."""
        return max(1, self.lanes * 8 // self.rows)

    @property
    def fused(self) -> bool:
        """Whether the products of several rows are made and added up in one go, by gates
        (:class:`~celosia.hdl.parts.sum_of_products.SumOfProducts`); else each product has a multiplier with a register
        behind it."""
        return self.target == "generic" and self.macs_per_multiplier == 1 and self.rows_per_sum > 1

    def with_target(self, target: str) -> "AcceleratorConfig":
        """The same accelerator for ``target``; another one chooses what suits it anew."""
        if target == self.target:
            return self
        return replace(self, target=target, rows_per_sum=0, columns_per_activation=0, weight_latches=0)

    def to_toml(self) -> str:
        """The configuration as a TOML text that :meth:`from_toml` reads back to an equal object."""
        return tomli_w.dumps(asdict(self))

    @classmethod
    def from_toml(cls, text: str) -> "AcceleratorConfig":
        """Read a configuration from TOML text; raises :class:`ConfigError` on bad text, keys or values."""
        try:
            table = tomllib.loads(text.removeprefix("\ufeff"))  # a byte order mark
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the configuration must be TOML: {error}") from error
        return cls.from_dict(table)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "AcceleratorConfig":
        """Build a configuration from a flat table; raises :class:`ConfigError` naming the first bad key."""
        known = [spec.name for spec in fields(cls)]
        for key in table:
            if key not in known:
                raise ConfigError(f"{key!r} is not a parameter; the parameters are {', '.join(known)}")
        return cls(**table)

    @classmethod
    def from_file(cls, path: str | Path) -> "AcceleratorConfig":
        """Read a configuration from a TOML file; raises :class:`ConfigError` when it can't be read."""
        try:
            return cls.from_toml(Path(path).read_bytes().decode("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration file {str(path)!r} can't be read: {error}") from error
