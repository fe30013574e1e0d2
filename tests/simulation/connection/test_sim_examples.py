"""Promise: classic mistakes of plain psycopg programs are found in few seeds, and correct programs are left in peace.

`python -m duress.simulator.examples` looks at 500 seeds of each.
"""

import pytest
from sim_programs import Simulate

from duress.simulator import Simulation
from duress.simulator.examples import EXAMPLES, Example

SEEDS = 100


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_mistake_is_found_again_from_its_token_and_not_in_the_corrected_program(
    simulate: Simulate, example: Example
) -> None:
    simulation: Simulation = simulate(example.setup, example.data)
    failure = simulation.find(example.broken, range(SEEDS))
    assert failure is not None
    print(f"{example.name}: seed {failure.seed}")
    with pytest.raises(type(failure.error)) as caught:
        simulation.run(example.broken, token=failure.token)
    assert caught.value.__notes__ == failure.error.__notes__
    assert simulation.find(example.corrected, range(40)) is None


def test_a_race_inside_one_function_is_seen_only_where_exchanges_are_held(simulate: Simulate) -> None:
    (example,) = (example for example in EXAMPLES if example.name == "claim_limit")
    assert simulate(example.setup, example.data, holds=0).find(example.broken, range(SEEDS)) is None
