-- Accept workflows, each id once. Answers in the order of the arguments; input and name come back only where they differ
-- from the ones stored, for the caller to compare.
create function {schema}.start_v1(p_ids text[], p_names text[], p_queues text[], p_inputs text[])
returns table (number bigint, existed boolean, stored_name text, stored_input text)
language plpgsql volatile
set plan_cache_mode to force_generic_plan
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off
as $$
#variable_conflict use_column
declare
    v_fresh bigint[];
begin
    insert into {schema}.queue (name)
    select distinct a.queue from unnest(p_queues) as a (queue)
    where not exists (select from {schema}.queue q where q.name = a.queue)
    order by 1
    on conflict do nothing;

    with fresh as (
        insert into {schema}.workflow (id, name, queue, input)
        select a.id, a.name, a.queue, a.input::json
        from unnest(p_ids, p_names, p_queues, p_inputs) as a (id, name, queue, input)
        order by a.id collate "C"
        on conflict (id) do nothing
        returning number, queue, name
    ), born as (
        insert into {schema}.live (number, queue, name, ready_at)
        select f.number, f.queue, f.name, clock_timestamp() from fresh f
        returning number
    )
    select array_agg(b.number) into v_fresh from born b;

    if v_fresh is not null then
        perform {schema}.wake_v1(p_queues);
    end if;

    return query
    select w.number,
           not coalesce(w.number = any (v_fresh), false),
           case when w.name <> a.name then w.name end,
           case when w.input::text <> a.input then w.input::text end
    from unnest(p_ids, p_names, p_inputs) with ordinality as a (id, name, input, place)
    join {schema}.workflow w on w.id = a.id collate "C"
    order by a.place;
end $$;

-- Wake the workers of these queues if any of them waits. NOTIFY serialises commits, so it is sent once per wait.
create function {schema}.wake_v1(p_queues text[]) returns void
language plpgsql volatile
as $$
begin
    if exists (select from {schema}.queue q where q.waiting and q.name = any (p_queues)) then
        update {schema}.queue q set waiting = false where q.waiting and q.name = any (p_queues);
        perform pg_notify('{schema}.work', 'work');
    end if;
end $$;
