-- The statements that take a database back to the start: one empties all tables of the user schemas, and one each resets
-- the sequences that no column owns. The tables to leave alone are in the setting duress.keep, separated by commas.
with kept as (
    select to_regclass(trim(name)) as relation
    from unnest(string_to_array(current_setting('duress.keep', true), ',')) as name
), mine as (
    select c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\_temp\_%'
      and c.oid not in (select relation from kept where relation is not null)
)
select 'truncate table ' || string_agg(name, ', ' order by name) || ' restart identity cascade'
from mine
where relkind in ('r', 'p')
having count(*) > 0
union all
select format('alter sequence %s restart', name)
from mine
where relkind = 'S'
  and not exists (
      select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = mine.oid and d.deptype in ('a', 'i')
  )
order by 1 desc;
