select extract(epoch from pg_postmaster_start_time())::float8 as started_at
