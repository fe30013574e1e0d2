-- Final outcomes. An outcome is written once, by the claim that holds the workflow, and never changes.

-- Finish one workflow; waits for locks. Answers finished, already (this very claim finished it before), fenced or lost.
create function {schema}.finish_v1(
    p_owner bigint, p_number bigint, p_epoch integer, p_known text[], p_status text, p_outcome text
) returns text
language plpgsql volatile
as $$
begin
    perform from {schema}.live l
    where l.number = p_number and l.owner = p_owner and l.epoch = p_epoch for update;
    if not found then
        perform from {schema}.workflow w
        where w.number = p_number and w.owner = p_owner and w.epoch = p_epoch and w.status = p_status;
        return case when found then 'already' else 'fenced' end;
    end if;
    if (select count(*) from {schema}.checkpoint c where c.number = p_number and c.step = any (p_known)) < cardinality(p_known) then
        return 'lost';
    end if;
    delete from {schema}.live l where l.number = p_number;
    perform {schema}.conclude_v1(p_number, p_owner, p_epoch, p_status, p_outcome);
    return 'finished';
end $$;

-- Many at once, each naming at most one known checkpoint; never waits. What is not finished here is answered false and sent
-- alone.
create function {schema}.finishes_v1(
    p_owner bigint, p_numbers bigint[], p_epochs integer[], p_knowns text[], p_statuses text[], p_outcomes text[]
) returns boolean[]
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off
as $$
declare
    v_finished boolean[];
begin
    with asked as materialized (
        select * from unnest(p_numbers, p_epochs, p_knowns, p_statuses, p_outcomes)
            with ordinality as a (number, epoch, known, status, outcome, place)
        order by a.number
    ), fenced as materialized (
        select a.* from asked a
        cross join lateral (
            select from {schema}.live l
            where l.number = a.number and l.owner = p_owner and l.epoch = a.epoch
            for update skip locked
        ) l
        where a.known is null
           or (select c.step from {schema}.checkpoint c where c.number = a.number and c.step = a.known collate "C") is not null
    ), gone as (
        delete from {schema}.live l using fenced f where l.number = f.number returning l.number
    ), done as (
        update {schema}.workflow w
        set status = f.status, outcome = f.outcome::json, owner = p_owner, epoch = f.epoch, finished_at = clock_timestamp()
        from gone g join fenced f on f.number = g.number
        where w.number = g.number and w.status = 'open'
        returning w.number, w.awaited
    ), told as materialized (
        select d.number, case when d.awaited then pg_notify('{schema}.done', d.number::text) end from done d
    )
    select array_agg(t.number is not null order by a.place) into v_finished
    from asked a left join told t on t.number = a.number;
    return v_finished;
end $$;

-- Write the outcome of a workflow whose live row the caller has locked and deleted; tell those who wait for it.
create function {schema}.conclude_v1(p_number bigint, p_owner bigint, p_epoch integer, p_status text, p_outcome text)
returns void
language plpgsql volatile
as $$
declare
    v_awaited boolean;
begin
    update {schema}.workflow w
    set status = p_status, outcome = p_outcome::json, owner = p_owner, epoch = p_epoch, finished_at = clock_timestamp()
    where w.number = p_number and w.status = 'open'
    returning w.awaited into v_awaited;
    if v_awaited then
        perform pg_notify('{schema}.done', p_number::text);
    end if;
end $$;

-- Outcomes of those that have one; the others are marked, so that finishing them sends a notification. A workflow that is
-- not there (any more) under this number answers a null status: a failover to a standby can lose an accepted one, and give
-- its number to another.
create function {schema}.await_v1(p_numbers bigint[], p_ids text[])
returns table (number bigint, id text, status text, outcome text)
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off
as $$
#variable_conflict use_column
begin
    update {schema}.workflow w set awaited = true
    where w.number = any (p_numbers) and w.status = 'open' and not w.awaited;
    return query
    select a.number, a.id, w.status, w.outcome::text
    from unnest(p_numbers, p_ids) as a (number, id)
    left join {schema}.workflow w on w.number = a.number and w.id = a.id collate "C"
    where w.status is distinct from 'open'
    order by a.number;
end $$;

-- Cancel a workflow, whoever runs it: its owner learns from the fence, or sooner from the notification.
-- Answers the number and cancelled, or the final status that came first; no row if there is no such workflow.
create function {schema}.cancel_v1(p_id text) returns table (number bigint, answer text)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_number bigint := (select w.number from {schema}.workflow w where w.id = p_id collate "C");
    v_live record;
begin
    delete from {schema}.live l where l.number = v_number returning l.owner, l.epoch into v_live;
    if found then
        perform {schema}.conclude_v1(v_number, v_live.owner, v_live.epoch + 1, 'cancelled', null);
        if v_live.owner is not null then
            perform pg_notify('{schema}.work', 'fenced ' || v_number);
        end if;
    end if;
    return query select w.number, w.status from {schema}.workflow w where w.number = v_number;
end $$;
