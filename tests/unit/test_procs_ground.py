"""Which sessions count as lost within an open transaction, by PostgreSQL's own log."""

from pathlib import Path

from duress.scenarios.procs.ground import lost_sessions

LINE = (
    "2026-11-23 21:58:41.468 UTC pid={pid} type=client backend vxid={vxid} xid={xid} state=08006 "
    "db=duress_ab12_seed_5 app={app} cmd={cmd} | {level}:  {message}\n"
)
OPEN = "unexpected EOF on client connection with an open transaction"


def line(
    pid: int,
    vxid: str = "3/7",
    xid: int = 812,
    app: str = "duress:4",
    cmd: str = "idle in transaction",
    level: str = "LOG",
    message: str = OPEN,
) -> str:
    return LINE.format(pid=pid, vxid=vxid, xid=xid, app=app, cmd=cmd, level=level, message=message)


def test_only_sessions_of_workers_with_work_in_a_transaction_count_and_each_once(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    terminated = "terminating connection due to administrator command"
    log.write_text(
        line(1)
        + line(1, level="FATAL", message="connection to client lost")
        + line(2, xid=0, cmd="UPDATE", level="FATAL", message="connection to client lost")
        + line(3, vxid="3/0", xid=0, cmd="idle", level="FATAL", message=terminated)
        + line(4, xid=0, cmd="SELECT waiting", level="FATAL", message="connection to client lost")
        + line(5, app="psql")
        + line(6, level="ERROR", message="deadlock detected")
        + line(7, level="FATAL", message=terminated)
    )
    assert {pid for _, pid in lost_sessions(log)} == {1, 2, 7}
    assert {database for database, _ in lost_sessions(log)} == {"duress_ab12_seed_5"}
