-- whether a session waits for the lock of a table
select exists (
    select from pg_stat_activity
    where application_name = %(application_name)s and wait_event_type = 'Lock' and wait_event = 'relation'
)
