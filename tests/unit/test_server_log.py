"""Two logs of one run are equal when process ids and times are all that differs, and not when anything else does."""

import pytest

from benchmarks.server_log import entries, first_difference

OURS = "{clock} UTC pid={pid} type=client backend vxid={proc}/"
APP = "db=sim_1 app=duress:1"
STATEMENT = f"{OURS}7 xid=0 state=00000 {APP} cmd=SELECT | "
LINES = (
    f"{STATEMENT}LOG:  execute <unnamed>: select 4711\n\tfrom account",
    f"{STATEMENT}DETAIL:  Parameters: $1 = '{{value}}'",
    f"{STATEMENT}LOG:  execute <unnamed>: select pg_terminate_backend($1)",
    f"{STATEMENT}DETAIL:  Parameters: $1 = '{{pid}}'",
    f"{OURS}9 xid=743 state=40P01 {APP} cmd=UPDATE | ERROR:  deadlock detected",
    f"{OURS}9 xid=743 state=40P01 {APP} cmd=UPDATE | DETAIL:  Process {{pid}} waits for transaction 742",
    "{farewells}",
    "{clock} UTC pid=77 type=checkpointer vxid= xid=0 state=00000 db= app= cmd= | LOG:  checkpoint of {pid} buffers",
    "{clock} UTC pid={pid} type=client backend vxid= xid=0 state=57P03 db= app= cmd= | FATAL:  not yet",
    "",
)
FAREWELL = f"{OURS}0 xid=0 state=57P01 db=sim_1 app=duress:%s cmd=idle | FATAL:  bye"


def log(
    *, pid: int = 11, proc: int = 3, clock: str = "2030-03-17 17:46:41.002", value: str = "x", order: str = "12"
) -> str:
    farewells = "\n".join(FAREWELL % who for who in order).format(clock=clock, pid=pid, proc=proc)
    return "\n".join(LINES).format(pid=pid, proc=proc, clock=clock, value=value, farewells=farewells)


def test_process_ids_times_and_the_order_of_farewells_do_not_matter() -> None:
    other = log(pid=23_456, proc=9, clock="2030-03-17 17:46:59.999", order="21")
    assert first_difference(log(), other) is None
    assert len(entries(log())) == 8
    assert "select 4711\n\tfrom account" in entries(log())[0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (log(value="y"), "'y'"),
        (log(order="13"), "app=duress:3"),
        (log(order="1"), "nothing more"),
        (log().replace("transaction 742", "transaction 742; blocked"), "transaction n; blocked"),
        (log().replace("xid=743", "xid=744"), "xid=744"),
        (log().replace("app=duress:1 cmd=UPDATE", "app=duress:2 cmd=UPDATE"), "app=duress:2"),
    ],
)
def test_anything_else_does(other: str, said: str) -> None:
    parted = first_difference(log(), other)
    assert parted is not None
    assert said in parted[1]
