"""Packing of regions, and the ring."""

import random

import celosia.firmware.machine.memory as memory
import pytest
from celosia.firmware.machine.memory import Phase, Region, Ring, pack


def test_everything_promised_is_exported() -> None:
    assert all(hasattr(memory, name) for name in memory.__all__)


def test_regions_of_different_phases_share_words() -> None:
    a = Region("a", 100, Phase.PROJECT)
    b = Region("b", 80, Phase.TRANSFORM)
    c = Region("c", 50, Phase.ALL)
    assert pack([c, a, b]) == 150
    assert (a.address, b.address, c.address) == (0, 0, 100)
    assert set(a.overlaps) == {a, b}
    assert c.overlaps == [c]


@pytest.mark.parametrize("seed", range(10))
def test_no_two_regions_overlap_in_a_phase(seed: int) -> None:
    rng = random.Random(seed)
    regions = [Region(str(i), rng.randint(1, 50), Phase(rng.randint(1, 15))) for i in range(20)]
    used = pack(regions)
    for a in regions:
        assert 0 <= a.address <= a.end <= used
        for b in regions:
            apart = a.end <= b.address or b.end <= a.address
            assert a is b or apart or not a.phases & b.phases
            assert (b in a.overlaps) != apart


@pytest.mark.parametrize("seed", range(10))
def test_what_is_read_together_lies_in_different_banks(seed: int) -> None:
    rng, bank = random.Random(seed), 16
    regions = [Region(f"{'abc'[i % 3]} {i}", rng.randint(1, 50), Phase(rng.randint(1, 15))) for i in range(20)]
    regions[0].cut = rng.randint(0, regions[0].words)
    used = pack(regions, bank, [("a", "b"), ("a", "a")])
    assert regions[0].cut == 0 or (regions[0].address + regions[0].cut) % bank == 0
    for i, a in enumerate(regions):
        assert 0 <= a.address <= a.end <= used
        for b in regions[i + 1:]:
            if a.phases & b.phases:
                assert a.end <= b.address or b.end <= a.address
                if {a.kind, b.kind} <= {"a", "b"} and (a.kind, b.kind) != ("b", "b"):
                    assert not {*range(a.address // bank, -(-a.end // bank))} & {
                        *range(b.address // bank, -(-b.end // bank))}


def test_the_ring_goes_round() -> None:
    ring = Ring(100, 10)
    assert [ring.allocate(4), ring.allocate(4)] == [100, 104]
    assert ring.allocate(4) is None
    ring.free(100)
    assert ring.allocate(2) == 108  # behind the last, before what was freed is used again
    assert ring.allocate(5) is None
    assert ring.allocate(4) == 100


@pytest.mark.parametrize("seed", range(10))
def test_buffers_in_the_ring_never_overlap(seed: int) -> None:
    rng, ring, live = random.Random(seed), Ring(7, 64), {}
    for _ in range(300):
        if live and rng.random() < 0.5:
            address = rng.choice(list(live))
            del live[address]
            ring.free(address)
            continue
        words = rng.randint(1, 20)
        address = ring.allocate(words)
        taken = {word for start, size in live.items() for word in range(start, start + size)}
        if address is None:
            free = [word not in taken for word in range(7, 71)]
            assert all(not all(free[i : i + words]) for i in range(64 - words + 1))
            continue
        assert 7 <= address <= 71 - words
        assert not taken & set(range(address, address + words))
        live[address] = words


def test_a_rewound_ring_starts_at_its_lowest_gap() -> None:
    ring = Ring(0, 10)
    assert [ring.allocate(2), ring.allocate(3)] == [0, 2]
    ring.free(0)
    ring.rewind()
    assert [ring.allocate(2), ring.allocate(2)] == [0, 5]
