-- Whether the session that began at this moment is still there: its process number alone may have a new owner.
select exists (
    select from pg_stat_activity where pid = %(pid)s and backend_start = %(backend_start)s
) as lives
