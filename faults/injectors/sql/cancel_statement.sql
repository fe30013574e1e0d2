-- cancel a statement that runs now; one that only waits for a neighbour's lock last
select pg_cancel_backend(pid)
from pg_stat_activity
where application_name = %(application_name)s and state = 'active' and backend_type = 'client backend'
order by (wait_event_type is not distinct from 'Lock'), query_start desc, pid
limit 1
