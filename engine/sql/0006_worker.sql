-- Who is alive. A worker holds a lease (a row) and, without a pooler, a session lock named by its incarnation, for which
-- the next worker in the ring of incarnations waits: a killed worker is noticed when its sessions end.

-- Join under a name. The incarnation is announced (committed) only after its lock is held. A worker of the same name that
-- is provably dead is taken over first; one that lives makes this answer its incarnation as taken_by.
create function {schema}.join_v1(p_name text, p_lease double precision, p_locks boolean, p_limit integer)
returns table (incarnation bigint, lease_until double precision, taken_by bigint)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_other record;
    v_answer text;
begin
    select w.incarnation, w.lease_until < clock_timestamp() as expired into v_other
    from {schema}.worker w where w.name = p_name collate "C" and w.ended_at is null;
    if found then
        if v_other.expired then
            select t.answer into v_answer from {schema}.take_over_v1(v_other.incarnation, 'lease', p_limit) t;
        elsif p_locks and pg_try_advisory_xact_lock({lock_class}, v_other.incarnation::integer) then
            select t.answer into v_answer from {schema}.take_over_v1(v_other.incarnation, 'lock', p_limit) t;
        end if;
        if coalesce(v_answer not in ('taken', 'ended'), true) then
            taken_by := v_other.incarnation;
            return next;
            return;
        end if;
    end if;

    incarnation := nextval(pg_get_serial_sequence('{schema}.worker', 'incarnation'));
    if p_locks then
        perform pg_advisory_lock({lock_class}, incarnation::integer);
        perform set_config('application_name', 'duress:' || incarnation, false);
    end if;
    insert into {schema}.worker as w (incarnation, name, lease_until) overriding system value
    values (incarnation, p_name, clock_timestamp() + p_lease * interval '1 s')
    on conflict do nothing
    returning extract(epoch from w.lease_until)::double precision into lease_until;
    if not found then  -- another of that name came at the same moment
        if p_locks then
            perform pg_advisory_unlock({lock_class}, incarnation::integer);
        end if;
        select w.incarnation into taken_by from {schema}.worker w
        where w.name = p_name collate "C" and w.ended_at is null;
        incarnation := null;
    else
        perform pg_notify('{schema}.work', 'ring');
    end if;
    return next;
end $$;

-- Heartbeat. No row: this worker was declared dead. expired: workers whose lease is over; next_in: seconds until the next
-- lease would be; peer: whom to watch in the ring.
create function {schema}.renew_v1(p_incarnation bigint, p_lease double precision)
returns table (lease_until double precision, peer bigint, expired bigint[], next_in double precision)
language plpgsql volatile
as $$
#variable_conflict use_column
begin
    update {schema}.worker w set lease_until = clock_timestamp() + p_lease * interval '1 s'
    where w.incarnation = p_incarnation and w.ended_at is null
    returning extract(epoch from w.lease_until)::double precision into lease_until;
    if not found then
        return;
    end if;
    peer := {schema}.peer_v1(p_incarnation);
    select array_agg(w.incarnation order by w.incarnation) filter (where w.lease_until <= clock_timestamp()),
           extract(epoch from min(w.lease_until) filter (where w.lease_until > clock_timestamp()) - clock_timestamp())
    into expired, next_in
    from {schema}.worker w where w.ended_at is null and w.incarnation <> p_incarnation;
    return next;
end $$;

-- The predecessor in the ring of living workers; null when alone.
create function {schema}.peer_v1(p_incarnation bigint) returns bigint
language sql stable
as $$
    select w.incarnation from {schema}.worker w
    where w.ended_at is null and w.incarnation <> p_incarnation
    order by w.incarnation < p_incarnation desc, w.incarnation desc
    limit 1
$$;

-- Wait until the peer's session lock is free, for at most lock_timeout: a waiting snapshot holds back vacuum. Neither the
-- end of the wait nor a cancel is an error in the server's log.
create function {schema}.watch_v1(p_peer bigint) returns boolean
language plpgsql volatile
set lock_timeout to '2s'
as $$
begin
    perform pg_advisory_xact_lock({lock_class}, p_peer::integer);
    return true;
exception
    when lock_not_available or query_canceled then
        return false;
end $$;

-- The sessions of a worker, by the name they carry or, behind a pooler, by the lock that its transactions hold.
create function {schema}.sessions_v1(p_incarnation bigint) returns integer[]
language sql volatile
as $$
    select coalesce(array_agg(s.pid order by s.pid), '{}')
    from (
        select a.pid from pg_stat_activity a
        where a.application_name = 'duress:' || p_incarnation and a.datname = current_database()
        union
        select l.pid from pg_locks l
        where l.locktype = 'advisory' and l.classid = ({lock_class} + 1)::bigint::oid and l.objid = p_incarnation::oid
          and l.objsubid = 2 and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
    ) s
    where s.pid <> pg_backend_pid()
$$;

-- Declare a worker dead and set its workflows free. By lock: only if none of its sessions is left (a live worker may have
-- lost just the one that held the lock). By lease: its sessions are ended, so that an open transaction of a paused worker
-- holds up nobody. A workflow that has brought down p_limit workers becomes dead. Workers of one machine die together: by
-- lock, whoever comes next before p_taker in the ring is taken over in the same transaction if it is as dead.
-- Answers, for each victim: taken, ended (somebody was faster), alive (the lease is not over) or sessions (some are left);
-- at last, by lock: watch, with the one that p_taker is to watch now (null: nobody).
create function {schema}.take_over_v1(
    p_victim bigint, p_reason text, p_limit integer, p_room integer default 0, p_taker bigint default null
) returns table (victim bigint, answer text, workflows integer, dead integer, at double precision)
language plpgsql volatile
set lock_timeout to '2s'
as $$
#variable_conflict use_column
declare
    v_worker record;
    v_dead record;
    v_sessions integer[];
    v_ready timestamptz;  -- the same for all, so that none of the victims' workflows come before the others'
    v_workflows integer := 0;
begin
    victim := p_victim;
    loop
        select w.ended_at, w.lease_until into v_worker
        from {schema}.worker w where w.incarnation = victim for update;
        if not found or v_worker.ended_at is not null then
            answer := 'ended';
        elsif p_reason = 'lease' and v_worker.lease_until > clock_timestamp() then
            answer := 'alive';
        else
            v_sessions := {schema}.sessions_v1(victim);
            answer := case when p_reason = 'lock' and v_sessions <> '{}' then 'sessions' else 'taken' end;
        end if;
        if answer <> 'taken' then
            workflows := null;
            dead := null;
            at := null;
            return next;
            exit;
        end if;

        begin
            perform pg_terminate_backend(s.pid) from unnest(v_sessions) as s (pid);
            -- All at once, and looked for more often than pg_terminate_backend would: that does so ten times a second.
            for v_look in 1 .. case when v_sessions <> '{}' then 200 else 0 end loop
                perform pg_sleep(0.005), pg_stat_clear_snapshot();
                exit when not exists (select from pg_stat_activity a where a.pid = any (v_sessions));
            end loop;
        exception when insufficient_privilege then
            raise warning 'duress: % may not end the sessions of worker %; grant it pg_signal_backend', current_user, victim;
        end;

        update {schema}.worker w set ended_at = clock_timestamp(), end_reason = p_reason where w.incarnation = victim;
        dead := 0;
        for v_dead in
            delete from {schema}.live l where l.owner = victim and l.takeovers + 1 >= p_limit returning l.number, l.epoch
        loop
            perform {schema}.conclude_v1(v_dead.number, victim, v_dead.epoch, 'dead', null);
            dead := dead + 1;
        end loop;
        v_ready := coalesce(v_ready, clock_timestamp());
        update {schema}.live l
        set owner = null, ready_at = v_ready, takeovers = l.takeovers + 1
        where l.owner = victim;
        get diagnostics workflows = row_count;
        v_workflows := v_workflows + workflows;
        at := extract(epoch from clock_timestamp());
        return next;

        exit when p_taker is null or p_reason <> 'lock';
        victim := {schema}.peer_v1(p_taker);
        if victim is null or not pg_try_advisory_xact_lock({lock_class}, victim::integer) then
            answer := 'watch';
            workflows := null;
            dead := null;
            at := null;
            return next;
            exit;
        end if;
    end loop;

    -- Who takes over claims next, and is the only one whose neighbour has changed if it came by the lock. The others would
    -- only be in its way, unless it has no room for all.
    if v_ready is not null then
        perform pg_notify('{schema}.work', 'ring') where p_reason <> 'lock';
        perform pg_notify('{schema}.work', 'work') where v_workflows > p_room;
    end if;
end $$;

-- Leave: nothing may be owned any more (what still is, is set free).
create function {schema}.leave_v1(p_incarnation bigint) returns void
language plpgsql volatile
as $$
begin
    update {schema}.worker w set ended_at = clock_timestamp(), end_reason = 'left'
    where w.incarnation = p_incarnation and w.ended_at is null;
    if found then
        update {schema}.live l set owner = null, ready_at = clock_timestamp() where l.owner = p_incarnation;
        perform pg_notify('{schema}.work', 'ring');
    end if;
end $$;
