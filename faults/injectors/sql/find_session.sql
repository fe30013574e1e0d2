-- The session to strike: of this worker, or (when any of them will do) of any; one inside a transaction before the others.
select pid
from pg_stat_activity
where datname = current_database()
  and backend_type = 'client backend'
  and application_name like %(application_name)s
  and application_name <> 'duress:harness'
order by
    case when state in ('idle in transaction', 'idle in transaction (aborted)') then 0
         when backend_xid is not null then 1
         else 2 end,
    xact_start,
    pid
limit 1
