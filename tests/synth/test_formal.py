"""The proofs of the memory bus hold, and find every fault that is planted for them."""

import pytest
from celosia.synth.formal.faults import FAULTS, Fault, planted
from celosia.synth.formal.properties import PROOFS
from celosia.synth.formal.prover import prove


@pytest.mark.parametrize("name", PROOFS)
def test_it_is_proved(name, tmp_path):
    outcome = prove(PROOFS[name](), tmp_path)
    assert outcome.proved, outcome.reason


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.proof}: {fault.what}")
def test_a_planted_fault_is_found(fault, tmp_path):
    with planted(fault) as proof:
        outcome = prove(proof(), tmp_path)
    assert not outcome.proved
    assert "properties.py" in outcome.reason, "by an assertion that fails"


def test_every_proof_has_a_fault():
    assert {fault.proof for fault in FAULTS} == set(PROOFS)


def test_a_fault_must_stand_in_its_module():
    fault = Fault("guard", "nothing", "celosia.hdl.bus.guard", "no such code", "")
    with (pytest.raises(ValueError, match=r"^celosia\.hdl\.bus\.guard must have 'no such code' once, not 0 times$"),
          planted(fault)):
        pass
