"""What no seed decides is noticed, ends with exit code 3, and is shown at the place where it came in."""

import shutil
from pathlib import Path

from command_line import duress

LEAKS = {  # scenario → what the place at which its two runs part is about
    "set_order": "in_the_order_of_a_set",
    "limit_without_order": "from pg_locks",
    "ctid": "select ctid from pg_database",
    "wall_clock": "at_the_time_of_the_machine",
    "unseeded_uuid": "by_an_identity_of_the_kernel",
}


def test_each_planted_leak_is_named_and_an_honest_scenario_is_not(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "leaks.py", tmp_path)
    scenarios = [f"leaks:{name}" for name in (*LEAKS, "honest")]
    said = duress(tmp_path, "run", *scenarios, "--world", "sim", "--seed", "1", "--json")
    assert said.code == 3, said.err
    found = {campaign["scenario"]: campaign["divergences"] for campaign in said.document["campaigns"]}
    for name, place in LEAKS.items():
        [divergence] = found[f"leaks:{name}"]
        assert divergence["first"] != divergence["second"]
        assert place in (divergence["asked"] or divergence["before"][-1]), divergence
        assert divergence["reproduce"].startswith("duress replay s1.")
        assert f"its two runs part at entry {divergence['entry']}" in said.err
    assert found["leaks:honest"] == []
