-- Claim ready work for a worker: raise the epoch, return each workflow and its checkpoints in the same call.
--
-- The first row is a header (number is null): member says whether the worker may own anything at all; armed whether this
-- call was the one that asked to be woken (then claim again: a start may have slipped in between); due_in the seconds until
-- the next work is ready. A workflow's row has no step and carries the input as value; the rows of its checkpoints follow,
-- as many as fit in p_bytes (checkpoints says how many there are; page_v1 brings the rest). With p_held, the numbers that the
-- worker runs, whatever else is its own is claimed anew (the answer to an earlier claim was lost on its way), and the queues'
-- floors are raised. p_full looks below the floors too.
create function {schema}.claim_v1(
    p_owner bigint, p_queues text[], p_names text[], p_room integer, p_bytes integer, p_full boolean,
    p_held bigint[]
) returns table (
    number bigint, id text, name text, epoch integer, takeovers integer, claimed_at double precision, checkpoints bigint,
    step text, kind text, failed boolean, value text, member boolean, armed boolean, due_in double precision
)
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_bitmapscan to off set enable_sort to off
set enable_hashjoin to off set enable_mergejoin to off
as $$
#variable_conflict use_column
declare
    v_queue record;
    v_now timestamptz := clock_timestamp();
    v_next timestamptz;
    v_some bigint[];
    v_taken bigint[] := '{}';
    v_replays boolean := false;
    v_armed boolean := false;
begin
    -- Against a takeover of this very worker, which locks the row for update; a heartbeat does not wait for this.
    perform from {schema}.worker w where w.incarnation = p_owner and w.ended_at is null for key share;
    if not found then
        return query select null::bigint, null, null, null::integer, null::integer, null::double precision, null::bigint,
            null, null, null::boolean, null, false, false, null::double precision;
        return;
    end if;

    if p_held is not null then
        with lost as materialized (
            select l.number from {schema}.live l
            where l.owner = p_owner and l.number <> all (p_held)
            order by l.number for update
        ), taken as (
            update {schema}.live l set epoch = l.epoch + 1, claimed_at = clock_timestamp()
            from lost where l.number = lost.number
            returning l.number
        )
        select coalesce(array_agg(t.number order by t.number), '{}'), count(*) > 0 into v_taken, v_replays from taken t;
    end if;

    for v_queue in
        select q.name, case when p_full then '-infinity' else q.floor end as floor
        from {schema}.queue q where q.name = any (p_queues) order by q.name
    loop
        with due as materialized (
            select l.number from {schema}.live l
            where l.queue = v_queue.name and l.owner is null and l.name = any (p_names)
              and l.ready_at >= v_queue.floor and l.ready_at <= v_now
            order by l.ready_at, l.number
            limit greatest(0, p_room - cardinality(v_taken))
            for update skip locked
        ), taken as (
            update {schema}.live l set owner = p_owner, epoch = l.epoch + 1, claimed_at = clock_timestamp()
            from due where l.number = due.number
            returning l.number, l.epoch
        )
        select array_agg(t.number order by t.number), v_replays or coalesce(max(t.epoch), 0) > 1
        into v_some, v_replays from taken t;
        v_taken := v_taken || coalesce(v_some, '{}');

        if p_held is not null or v_some is null then
            -- Work of others' names is not ours to wait for: where its code is gone, that would be to ask without a pause.
            select l.ready_at into v_next from {schema}.live l
            where l.queue = v_queue.name and l.owner is null and l.name = any (p_names) and l.ready_at >= v_queue.floor
            order by l.ready_at, l.number limit 1;
            due_in := least(due_in, extract(epoch from v_next - v_now)::double precision);
        end if;
        if p_held is not null then
            select l.ready_at into v_next from {schema}.live l
            where l.queue = v_queue.name and l.owner is null and l.ready_at >= v_queue.floor
            order by l.ready_at, l.number limit 1;
            -- A little behind the clock: starts that took their time just now may not be visible yet. One that took longer is
            -- found by the next look from the beginning.
            update {schema}.queue q set floor = least(v_next, v_now - interval '1 s') where q.name = v_queue.name;
        end if;
    end loop;

    if cardinality(v_taken) < p_room then
        update {schema}.queue q set waiting = true where q.name = any (p_queues) and not q.waiting;
        v_armed := found;
    end if;
    return query select null::bigint, null, null, null::integer, null::integer, null::double precision, null::bigint,
        null, null, null::boolean, null, true, v_armed, due_in;

    return query
    select l.number, w.id, l.name, l.epoch, l.takeovers, extract(epoch from l.claimed_at)::double precision,
           case when l.epoch > 1 then (select count(*) from {schema}.checkpoint c where c.number = l.number) else 0 end,
           null, null, null::boolean, w.input::text, null::boolean, null::boolean, null::double precision
    from unnest(v_taken) as t (number)
    join {schema}.live l on l.number = t.number
    join {schema}.workflow w on w.number = t.number;

    if v_replays then
        return query
        select s.number, null, s.name, null::integer, null::integer, null::double precision, null::bigint,
               s.step, s.kind, s.failed, s.value, null::boolean, null::boolean, null::double precision
        from (
            select c.number, c.name, c.step, c.kind, c.failed, c.value::text as value,
                   sum(pg_column_size(c.value)) over (order by c.number, c.step) as bytes
            from unnest(v_taken) as t (number)
            join {schema}.checkpoint c on c.number = t.number
        ) s
        where s.bytes <= p_bytes;
    end if;
end $$;

-- The checkpoints of one workflow after a step, in the order of the primary key, up to p_bytes (at least one).
create function {schema}.page_v1(p_number bigint, p_after text, p_bytes integer)
returns table (step text, name text, kind text, failed boolean, value text)
language sql stable
as $$
    select s.step, s.name, s.kind, s.failed, s.value
    from (
        select c.step, c.name, c.kind, c.failed, c.value::text as value,
               sum(pg_column_size(c.value)) over (order by c.step) - pg_column_size(c.value) as before
        from {schema}.checkpoint c where c.number = p_number and c.step > p_after collate "C"
    ) s
    where s.before < p_bytes
    order by s.step
$$;

-- Hand back what this owner holds: at once (p_ready_in null), or to be woken later. Answers the numbers it really held.
create function {schema}.release_v1(p_owner bigint, p_numbers bigint[], p_epochs integer[], p_ready_at double precision[])
returns setof bigint
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off
as $$
declare
    v_queues text[];
begin
    return query
    with held as materialized (
        select l.number, a.ready_at
        from unnest(p_numbers, p_epochs, p_ready_at) as a (number, epoch, ready_at)
        join {schema}.live l on l.number = a.number and l.epoch = a.epoch and l.owner = p_owner
        order by l.number for update of l
    )
    update {schema}.live l
    set owner = null, ready_at = coalesce(to_timestamp(h.ready_at), clock_timestamp()), takeovers = 0
    from held h where l.number = h.number
    returning l.number;

    select array_agg(distinct l.queue) into v_queues
    from unnest(p_numbers) as a (number) join {schema}.live l on l.number = a.number and l.owner is null;
    perform {schema}.wake_v1(v_queues);
end $$;
