"""Random programs on the whole accelerator, against the interpreter that executes them one by one."""

import random

import cocotb
import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.sim.functional import FunctionalMachine

from cocotb_tests.accelerator_driver import BASE, LIMIT, AcceleratorDriver
from cocotb_tests.harness import bench_parameters
from cocotb_tests.models import status_of
from cocotb_tests.random_programs import RandomProgram

CONFIG = AcceleratorConfig.from_toml(bench_parameters()["config"])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def memory_is_as_if_executed_in_order(dut):
    """Semaphores order what must be ordered, and nothing else."""
    accelerator = await AcceleratorDriver(dut, CONFIG, latency=10).start()
    memory = accelerator.memory
    for _ in range(bench_parameters()["programs"]):
        program = RandomProgram(CONFIG, 60, BASE, LIMIT)
        memory.data[BASE:LIMIT] = program.memory.tobytes()
        outside = bytes(memory.data[:BASE]) + bytes(memory.data[LIMIT:])
        FunctionalMachine(CONFIG, seed=random.getrandbits(32)).run(
            program.memory, program.address, BASE, check_races=True)
        accelerator.stress(random.choice([0.0, 0.0, 0.1, 0.4]))
        await accelerator.launch(program.address)
        assert await accelerator.ended() == status_of(done=1)
        found = np.frombuffer(bytes(memory.data[BASE:LIMIT]), np.uint8)
        wrong = np.flatnonzero(found != program.memory)
        if wrong.size:
            dut._log.info("%s", "\n".join(map(str, program.instructions)))
        np.testing.assert_array_equal(found, program.memory, err_msg=f"first at {BASE + wrong[:1]}")
        assert bytes(memory.data[:BASE]) + bytes(memory.data[LIMIT:]) == outside
