-- End one session of a worker, inside a transaction if there is one. In one statement: between two the transaction may end.
with ranked as (
    select pid, backend_start, xact_start,
           case when state in ('idle in transaction', 'idle in transaction (aborted)') then 0
                when backend_xid is not null then 1
                else 2 end as rank
    from pg_stat_activity
    where datname = current_database()
      and coalesce(backend_type, 'client backend') = 'client backend'  -- null: of a role that we may not look at
      and application_name = %(application_name)s
      and not exists (  -- told before, and about to end
          select from unnest(%(told_pids)s::integer[], %(told_starts)s::timestamptz[]) as told (pid, backend_start)
          where told.pid = pg_stat_activity.pid and told.backend_start = pg_stat_activity.backend_start
      )
),
chosen as materialized (
    select pid, backend_start, rank < 2 as in_transaction
    from ranked
    where rank < 2 or not %(in_transaction_only)s
    order by rank, xact_start, pid
    limit 1
)
select pid, backend_start, in_transaction, pg_terminate_backend(pid) as asked
from chosen
order by pid
