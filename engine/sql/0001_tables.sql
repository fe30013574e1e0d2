-- The tables. What changes often is narrow and short-lived (live, worker, queue); what is kept is written once or twice.

create table {schema}.workflow (
    number bigint generated always as identity primary key,
    id text collate "C" not null unique,
    name text collate "C" not null,
    queue text collate "C" not null,
    input json not null,
    status text collate "C" not null default 'open'
        check (status in ('open', 'succeeded', 'failed', 'cancelled', 'dead')),
    outcome json,
    epoch integer not null default 0,
    owner bigint,
    awaited boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
) with (fillfactor = 85);

-- One row per unfinished workflow: who may write for it. The fence is (owner, epoch), decided under this row's lock.
create table {schema}.live (
    number bigint primary key references {schema}.workflow,
    queue text collate "C" not null,
    name text collate "C" not null,
    ready_at timestamptz not null,
    claimed_at timestamptz,
    owner bigint,
    epoch integer not null default 0,
    takeovers integer not null default 0
) with (fillfactor = 70);
create index live_ready on {schema}.live (queue, ready_at, number) where owner is null;
create index live_owned on {schema}.live (owner, number) where owner is not null;

create table {schema}.checkpoint (
    number bigint not null,
    step text collate "C" not null,
    name text collate "C" not null,
    kind text collate "C" not null,  -- step, transaction, sleep or race; no check: it would cost a third of the insert
    failed boolean not null,
    value json not null,
    owner bigint not null,
    epoch integer not null,
    at timestamptz not null default clock_timestamp(),
    primary key (number, step)
);

create table {schema}.worker (
    incarnation bigint generated always as identity primary key,
    name text collate "C" not null,
    joined_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz not null,
    ended_at timestamptz,
    end_reason text collate "C"
) with (fillfactor = 50);
create unique index worker_name on {schema}.worker (name) where ended_at is null;

-- waiting: some worker found nothing and wants to be woken. floor: no work is known to be ready before it; a claim starts
-- there, so that rows which are gone, but which an old snapshot keeps, are not read again at every claim.
create table {schema}.queue (
    name text collate "C" primary key,
    waiting boolean not null default false,
    floor timestamptz not null default '-infinity'
) with (fillfactor = 50);
