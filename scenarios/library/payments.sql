-- Accounts, and an append-only ledger that carries the money in transit.
-- No key or constraint keeps a transfer from being entered twice: a duplicate must show, not be refused.
create table account (
    id text primary key,
    balance bigint not null,
    opening bigint not null  -- balance = opening + the account's lines in the ledger
);

create table ledger (
    line bigint generated always as identity primary key,
    account text not null,  -- an account, or 'transit' while the money is on its way
    cents bigint not null,  -- the lines of one transaction sum to zero
    workflow text not null,
    step text not null,
    epoch integer not null,
    entry text not null,  -- 'debit', 'credit' or 'refund'
    xact xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp()
);
