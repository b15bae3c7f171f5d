-- +goose Up

-- Who does a task for the fleet: reading lists, settling, reconciling. A row
-- instead of a session lock, so that a process that stands still loses it.
create table task_leases (
    instance_id bigint not null,
    name        text not null,
    holder      text not null,
    term        bigint not null,
    until       timestamptz not null,
    primary key (instance_id, name)
);
comment on table task_leases is 'Which process does a task for all processes of an instance; anyone may take a lease that has run out';
comment on column task_leases.instance_id is 'The instance';
comment on column task_leases.name is 'The task: preflight, settle, reconcile, night, purge, or links and the number of a batch';
comment on column task_leases.holder is 'The process that took it last, as workers.id';
comment on column task_leases.term is 'How often it was taken; what its holder writes is refused once this has changed';
comment on column task_leases.until is 'When it runs out unless it is renewed; -infinity: it was given back';

-- A process lives until this time, unless it is heard of again. Processes of the
-- version before do not write it, and hold the lock that lock_key names; later
-- ones hold no lock.
alter table workers add column lives_until timestamptz;
alter table workers alter column lock_key set default 0;
comment on column workers.lives_until is 'After this time it counts as dead; NULL: a process of a version that did not write it';
comment on column workers.lock_key is 'The advisory lock that a process of an older version holds for as long as it lives; 0: none';
