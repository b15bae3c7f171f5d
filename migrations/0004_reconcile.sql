-- +goose Up

alter table results add column status_read_id bigint;
comment on column results.status_read_id is 'The read that showed the status; NULL: it came with the outcome, or an answer to a revoke told it';

alter table reads drop constraint reads_call_check;
alter table reads add constraint reads_call_check check (call in (
    'users', 'invitations', 'invitations_pending', 'invitations_revoked', 'reconcile', 'reconcile_revoked'));

-- One row for each time that everything at Clerk was held against our rows.
create table reconciles (
    id            bigint generated always as identity primary key,
    instance_id   bigint not null references instances,
    worker_id     text not null,
    started_by    text not null,
    started_at    timestamptz not null default clock_timestamp(),
    finished_at   timestamptz,
    complete      boolean not null default false,
    error         text,
    requests      integer not null default 0,
    scanned       integer not null default 0,
    accepted      integer not null default 0,
    expired       integer not null default 0,
    revoked       integer not null default 0,
    unexplained   integer not null default 0,
    gone          integer not null default 0,
    pending_again integer not null default 0
);
create index reconciles_finished on reconciles (instance_id, started_at) where finished_at is not null;
comment on table reconciles is 'Each time that all invitations at Clerk were held against our rows';
comment on column reconciles.id is 'Its number';
comment on column reconciles.worker_id is 'The process that did it (workers.id)';
comment on column reconciles.started_by is 'Who asked, or "every" and how often workers do it by themselves';
comment on column reconciles.started_at is 'When it began';
comment on column reconciles.finished_at is 'When it ended; NULL: it runs, or its process died';
comment on column reconciles.complete is 'Whether it read everything there is; only then is anything taken to be gone';
comment on column reconciles.error is 'Why it is not complete';
comment on column reconciles.requests is 'GETs that it sent';
comment on column reconciles.scanned is 'Invitations that it was shown, each counted once';
comment on column reconciles.accepted is 'Rows that it found accepted';
comment on column reconciles.expired is 'Rows that it found expired';
comment on column reconciles.revoked is 'Rows that it found revoked by somebody else';
comment on column reconciles.unexplained is 'At its end: open drift of that kind';
comment on column reconciles.gone is 'At its end: open drift of that kind';
comment on column reconciles.pending_again is 'At its end: open drift of that kind';

-- Where Clerk and our rows tell different stories.
create table drift (
    instance_id         bigint not null references instances,
    kind                text not null check (kind in ('unexplained', 'gone', 'pending_again')),
    clerk_invitation_id text not null,
    key                 text not null,
    batch_id            bigint,
    row_number          integer,
    status              text,
    created_at          timestamptz,
    first_seen          timestamptz not null,
    last_seen           timestamptz not null,
    ended_at            timestamptz,
    primary key (instance_id, kind, clerk_invitation_id),
    foreign key (batch_id, row_number) references results (batch_id, row_number)
);
create index drift_open on drift (instance_id, kind) where ended_at is null;
comment on table drift is 'Where Clerk and our rows tell different stories, as reconciling finds it; nothing is decided by it';
comment on column drift.kind is 'unexplained: an invitation at Clerk that no row explains; gone: a row''s invitation that Clerk does not list any more; pending_again: one that a row has as over, and Clerk as pending';
comment on column drift.clerk_invitation_id is 'Clerk''s id (inv_…) of the invitation';
comment on column drift.key is 'The person, as results.key; the invitation''s id where its address is none that a file could name';
comment on column drift.batch_id is 'For gone and pending_again: the batch of the row';
comment on column drift.row_number is 'For gone and pending_again: the row';
comment on column drift.status is 'Where the invitation stands at Clerk; for gone, where the row has it';
comment on column drift.created_at is 'When Clerk made it, by Clerk''s clock';
comment on column drift.first_seen is 'When the reconciling began that found it first';
comment on column drift.last_seen is 'When the last one began that found it so';
comment on column drift.ended_at is 'When a complete one did not find it any more; NULL: it stands';
