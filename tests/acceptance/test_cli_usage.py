"""Whatever can be corrected by who typed it is said in one paragraph and exits 2, before anything is started."""

import json
from pathlib import Path

import psycopg
import pytest
from command_line import duress

from duress.faults.postgres import Server


def test_list_names_the_scenarios(tmp_path: Path) -> None:
    said = duress(tmp_path, "list")
    assert said.code == 0 and said.err == ""
    assert said.out.splitlines()[0].split()[0] == "payments"
    [payments] = duress(tmp_path, "list", "--json").document
    assert payments["name"] == "payments" and "kill-worker" in payments["faults"]


def test_the_canaries_are_listed_a_line_each_with_what_they_break(tmp_path: Path) -> None:
    said = duress(tmp_path, "list", "--canaries", "payments")
    lines = [line.split() for line in said.out.splitlines()]
    assert said.code == 0 and ["key-of-the-epoch", "S4"] in lines
    promised = set(duress(tmp_path, "list", "--json").document[0]["invariants"])
    assert {id_ for _, *ids in lines for id_ in ids} == promised, "each invariant has its canary"
    document = duress(tmp_path, "list", "--canaries", "payments", "--json").document
    assert [[one["name"], *one["breaks"]] for one in document] == lines
    assert duress(tmp_path, "list", "--canaries", "nothing").code == 2


def test_an_unknown_scenario_is_refused_with_a_list_of_what_there_is(tmp_path: Path) -> None:
    for name in ("paymints", "nothing.here:scenario", "json:dumps"):
        said = duress(tmp_path, "run", name)
        assert said.code == 2 and said.out == ""
        assert name.partition(":")[0] in said.err and "There is: payments" in said.err


def test_without_a_daemon_the_world_of_containers_says_how_to_get_one(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--world", "docker", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert said.code == 2 and "--world docker: no Docker daemon answers" in said.err
    assert "DOCKER_HOST" in said.err and "apt-get install docker.io" in said.err


KILL = {"trigger": {"at": "time", "seconds": 0.5}, "fault": {"kind": "kill-worker"}}


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        ('{"events": [', "not JSON"),
        ({"events": [{**KILL, "fault": {"kind": "kill-werker"}}]}, "events[0].fault.kind is 'kill-werker'"),
        ({"events": [KILL, {**KILL, "worker": 9}]}, "events[1].worker is 9"),
        ({"events": [{**KILL, "trigger": {"at": "time", "seconds": -1}}]}, "events[0].trigger.seconds is -1"),
        ({"events": [{**KILL, "trigger": {"at": "point", "point": "step.begun"}}]}, "events[0].trigger.point"),
        ({"events": [], "version": 99}, "version is 99"),
    ],
)
def test_a_malformed_plan_is_refused_by_the_name_of_its_field(tmp_path: Path, plan: object, names: str) -> None:
    (tmp_path / "plan.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))
    said = duress(tmp_path, "run", "payments", "--plan", "plan.json")
    assert said.code == 2 and said.out == ""
    assert "plan.json" in said.err and names in said.err
    assert not (tmp_path / ".duress").exists(), "nothing was begun"


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--plan", "gone.json")
    assert said.code == 2 and "gone.json" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--faults", "kill-werker"), "did you mean 'kill-worker'"),
        (("--faults", ","), "--faults is empty"),
        (("--faults", "crash-backend", "--dsn", "postgresql://localhost/x"), "crash-backend would take down"),
        (("--faults", "failover", "--world", "sim"), "failover cannot be done in sim; use --world procs"),
        (
            ("--faults", "crash-at-commit", "--world", "procs"),
            "crash-at-commit cannot be done in procs; use --world sim",
        ),
        (("--set", "transfers=0"), "must be a whole number from 1"),
        (("--set", "lines=3"), "transfers=80"),
        (("--workers", "0"), "--workers"),
        (("--seeds", "-1"), "--seeds"),
        (("--canary", "nothing"), "has no canary 'nothing'"),
        (("--out", "/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_an_option_that_cannot_work_is_named(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    said = duress(tmp_path, "run", "payments", *arguments)
    assert said.code == 2 and said.out == ""
    assert says in said.err
    assert "Traceback" not in said.err


def test_a_plan_that_would_harm_a_user_s_server_is_refused_by_the_name_of_the_fault(tmp_path: Path) -> None:
    plan = {"events": [KILL, {**KILL, "fault": {"kind": "restart-postgres"}}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    said = duress(tmp_path, "run", "payments", "--plan", "plan.json", "--dsn", "postgresql://localhost/x")
    assert said.code == 2
    assert "events[1].fault.kind is 'restart-postgres'" in said.err


def test_a_dsn_that_does_not_answer_is_refused_without_its_password(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--dsn", "postgresql://me:secret@127.0.0.1:1/db")
    assert said.code == 2 and said.out == ""
    assert "does not answer" in said.err and "port=1" in said.err
    assert "secret" not in said.err and "Traceback" not in said.err


def test_a_dsn_without_rights_is_refused_with_the_remedy(tmp_path: Path, server: Server) -> None:

    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create role nobody_much login")
    said = duress(tmp_path, "run", "payments", "--dsn", server.dsn(user="nobody_much"))
    assert said.code == 2 and said.out == ""
    assert "may not create databases" in said.err and "alter role" in said.err


def test_what_a_network_cannot_do_is_refused_with_the_one_that_can(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--network", "toxiproxy", "--faults", "cut-commit")
    assert said.code == 2 and "cut-commit cannot be done in procs with --network toxiproxy; use" in said.err
    assert "--world procs --network proxy" in said.err
    said = duress(tmp_path, "run", "payments", "--faults", "partition", DURESS_NETWORK="none")
    assert said.code == 2 and "partition cannot be done in procs with --network none" in said.err
    said = duress(tmp_path, "run", "payments", "--world", "sim", "--network", "proxy")
    assert said.code == 2 and "--network is for real processes" in said.err


def test_a_toxiproxy_server_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--network", "toxiproxy", DURESS_TOXIPROXY="/nowhere/toxiproxy")
    assert said.code == 2 and "DURESS_TOXIPROXY is '/nowhere/toxiproxy'" in said.err and "go install" in said.err


def test_nothing_selected_is_exit_code_5(tmp_path: Path) -> None:
    said = duress(tmp_path, "run", "payments", "--seeds", "0")
    assert said.code == 5 and "nothing selected" in said.err


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """`seeds` decides between exit 5 (none) and exit 2 (some, on a world that is not there)."""
    file = tmp_path / "pyproject.toml"

    def code(*arguments: str, **environment: str) -> int:
        return duress(tmp_path, "run", "payments", "--dsn", "port=1", *arguments, **environment).code

    file.write_text("[tool.duress]\nseeds = 0\n")
    assert code() == 5
    assert code(DURESS_SEEDS="1") == 2
    assert code("--seeds", "1") == 2
    file.write_text("[tool.duress]\nseeds = 1\n")
    assert code() == 2
    assert code(DURESS_SEEDS="0") == 5
    assert code("--seeds", "0", DURESS_SEEDS="1") == 5


def test_unknown_keys_are_errors_that_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.duress]\nsedes = 3\n")
    said = duress(tmp_path, "list")
    assert said.code == 2
    assert "pyproject.toml" in said.err and "'sedes'" in said.err and "did you mean 'seeds'" in said.err
    (tmp_path / "pyproject.toml").unlink()
    said = duress(tmp_path, "list", DURESS_WORKRES="3")
    assert said.code == 2 and "DURESS_WORKRES" in said.err and "DURESS_WORKERS" in said.err


def test_a_value_of_the_wrong_type_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.duress]\nworkers = "many"\n')
    said = duress(tmp_path, "run", "payments")
    assert said.code == 2 and "workers" in said.err and "many" in said.err


def test_an_exception_that_nobody_handled_exits_3(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('my module is broken')\n")
    said = duress(tmp_path, "run", "mine:scenario")
    assert said.code == 3
    assert "my module is broken" in said.err


def test_a_user_s_own_scenario_is_found_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from duress.scenarios.library.payments import payments as scenario\n")
    assert duress(tmp_path, "run", "mine:scenario", "--seeds", "0").code == 5
    assert duress(tmp_path, "run", "mine:scenario", "--set", "nothing=1").code == 2
