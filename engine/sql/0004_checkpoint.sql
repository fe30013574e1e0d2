-- Write checkpoints under the fence. A writer names itself, the epoch of its claim, and the last checkpoints that it knows
-- to be durable (p_known): after a failover that lost commits, an epoch can come twice, and a writer whose memory is ahead
-- of the database must not write on top of it. The row lock is held to COMMIT, so that no claim can pass between check and
-- commit. Shared, because two steps of one workflow may be written at once.

-- One checkpoint. Answers
--   written: it is in this transaction; already: this very claim wrote it before (a repeated message);
--   fenced: the workflow is not this claim's; lost: a known checkpoint is missing; conflict: another claim wrote this step.
-- Without p_wait, null where it is not simply written: the writer then asks again, where waiting holds up nobody.
create function {schema}.checkpoint_v1(
    p_owner bigint, p_number bigint, p_epoch integer, p_known text[],
    p_step text, p_name text, p_kind text, p_failed boolean, p_value text, p_wait boolean
) returns text
language plpgsql volatile
as $$
begin
    -- The common case: nobody holds the lock, and at most one checkpoint is named.
    perform from {schema}.live l
    where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch and cardinality(p_known) <= 1
      and (p_known = '{}' or exists (
          select from {schema}.checkpoint c where c.number = p_number and c.step = p_known[1] collate "C"))
    for share skip locked;
    if found then
        insert into {schema}.checkpoint (number, step, name, kind, failed, value, owner, epoch)
        values (p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch)
        on conflict (number, step) do nothing;
        if found then
            return 'written';
        end if;
    end if;
    if not p_wait then
        return null;
    end if;

    perform from {schema}.live l
    where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch
    for share;
    if not found then
        return 'fenced';
    end if;
    if (select count(*) from {schema}.checkpoint c where c.number = p_number and c.step = any (p_known)) < cardinality(p_known) then
        return 'lost';
    end if;
    insert into {schema}.checkpoint (number, step, name, kind, failed, value, owner, epoch)
    values (p_number, p_step, p_name, p_kind, p_failed, p_value::json, p_owner, p_epoch)
    on conflict (number, step) do nothing;
    if found then
        return 'written';
    end if;
    perform from {schema}.checkpoint c
    where c.number = p_number and c.step = p_step collate "C" and c.owner = p_owner and c.epoch = p_epoch;
    return case when found then 'already' else 'conflict' end;
end $$;

-- Many plain checkpoints in one transaction. Never waits: what is not written here (locked, fenced, lost, repeated) is
-- answered false, and the writer sends it alone to learn why. Rows are locked in the order of their numbers. A row names at
-- most one known checkpoint here (null for none). (Not by EXISTS: beside OR the planner may read the whole table into a hash.)
create function {schema}.checkpoints_v1(
    p_owner bigint, p_numbers bigint[], p_epochs integer[], p_knowns text[],
    p_steps text[], p_names text[], p_kinds text[], p_faileds boolean[], p_values text[]
) returns boolean[]
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off
as $$
declare
    v_written boolean[];
begin
    with asked as materialized (
        select * from unnest(p_numbers, p_epochs, p_knowns, p_steps, p_names, p_kinds, p_faileds, p_values)
            with ordinality as a (number, epoch, known, step, name, kind, failed, value, place)
        order by a.number, a.step collate "C"
    ), fenced as materialized (
        select a.* from asked a
        cross join lateral (
            select from {schema}.live l
            where l.number = a.number and l.owner = p_owner and l.epoch = a.epoch
            for share skip locked
        ) l
        where a.known is null
           or (select c.step from {schema}.checkpoint c where c.number = a.number and c.step = a.known collate "C") is not null
    ), written as (
        insert into {schema}.checkpoint (number, step, name, kind, failed, value, owner, epoch)
        select f.number, f.step, f.name, f.kind, f.failed, f.value::json, p_owner, f.epoch from fenced f
        on conflict (number, step) do nothing
        returning number, step
    )
    select array_agg(w.number is not null order by a.place) into v_written
    from asked a left join written w on w.number = a.number and w.step = a.step collate "C";
    return v_written;
end $$;

-- A durable sleep: its end is fixed by this clock, once. With p_suspend the workflow is handed back until then. Answers as
-- checkpoint_v1.
create function {schema}.sleep_v1(
    p_owner bigint, p_number bigint, p_epoch integer, p_known text[],
    p_step text, p_name text, p_seconds double precision, p_suspend boolean, p_wait boolean
) returns table (answer text, due_at double precision, now_at double precision)
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_due double precision := extract(epoch from v_now)::double precision + p_seconds;
begin
    if p_suspend then  -- the stronger lock first
        if p_wait then
            perform from {schema}.live l
            where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch for no key update;
        else
            perform from {schema}.live l
            where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch for no key update skip locked;
            if not found then
                return next;
                return;
            end if;
        end if;
    end if;
    answer := {schema}.checkpoint_v1(
        p_owner, p_number, p_epoch, p_known, p_step, p_name, 'sleep', false, to_json(v_due)::text, p_wait);
    due_at := v_due;
    now_at := extract(epoch from v_now);
    if answer = 'already' then
        select c.value::text::double precision into due_at
        from {schema}.checkpoint c where c.number = p_number and c.step = p_step collate "C";
    end if;
    if p_suspend and answer in ('written', 'already') then
        update {schema}.live l set owner = null, ready_at = to_timestamp(due_at), takeovers = 0 where l.number = p_number;
    end if;
    return next;
end $$;

-- What a step's checkpoint says: how an ambiguous COMMIT is resolved.
create function {schema}.recorded_v1(p_number bigint, p_step text)
returns table (failed boolean, value text, owner bigint, epoch integer)
language sql stable
as $$
    select c.failed, c.value::text, c.owner, c.epoch from {schema}.checkpoint c
    where c.number = p_number and c.step = p_step collate "C"
$$;
