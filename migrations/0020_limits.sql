-- +goose Up

comment on column instances.clerk_id is 'Clerk''s id of the instance (ins_…); "sandbox" for the sandbox inside the program; key:… or retired:key:… where an earlier version used a key''s fingerprint';

-- Each worker states the limits that it was given, and all keep the strictest.
-- Workers of the version before state none.
alter table workers
    add column limit_create  text,
    add column limit_bulk    text,
    add column limit_general text;
comment on column workers.limit_create is 'The limit on single creates that it was given: N/DURATION, none or off; NULL: its version does not state it';
comment on column workers.limit_bulk is 'The limit on bulk creates that it was given';
comment on column workers.limit_general is 'The limit on all other calls that it was given';
