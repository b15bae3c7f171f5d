-- +goose Up

-- A sweep is any run of taking invitations back, whoever asks for it.
alter table sweeps
    alter column older_than drop not null,
    add column kind text not null default 'sweep' check (kind in ('sweep', 'rescind', 'undo', 'correct')),
    add column batch_id bigint references batches,
    add column threshold integer,
    add column allowed_by text,
    add column allowed_at timestamptz;
alter table sweeps alter column kind drop default;
create index sweeps_unfinished on sweeps (instance_id, id) where apply and finished_at is null;
comment on table sweeps is 'Each run of taking invitations back: nightly and other sweeps, rescinds, undos, corrections; dry runs too';
comment on column sweeps.kind is 'sweep: what is stale; rescind: the people of a list; undo: what a batch sent; correct: a mistyped address';
comment on column sweeps.batch_id is 'The batch that it concerns; NULL: no single one';
comment on column sweeps.started_by is 'Who asked, or "nightly sweep"';
comment on column sweeps.older_than is 'How old a pending invitation had to be, where its batch does not say; NULL: age did not matter';
comment on column sweeps.threshold is 'How many revocations it may make before it is held and asks a person; NULL: any number';
comment on column sweeps.held is 'It stopped at its threshold, has revoked nothing, and waits for a person';
comment on column sweeps.allowed_by is 'Who allowed it to pass its threshold; NULL: nobody had to';
comment on column sweeps.allowed_at is 'When it was allowed';
comment on column sweeps.finished_at is 'When its last revocation was decided; NULL: it goes on, or is held';
comment on column sweeps.stale is 'Those of them that are to go: revoked, failed and skipped together';
comment on column sweeps.revoked is 'Those that it revoked';
comment on column sweeps.skipped is 'How many were left alone, by reason';
comment on column sweeps.failed is 'Refused by Clerk, or given up after transient answers for a day';

-- One row for each invitation that a sweep is to take back. Rows are the truth, jobs are disposable.
create table revocations (
    sweep_id            bigint not null references sweeps,
    clerk_invitation_id text not null,
    instance_id         bigint not null references instances,
    key                 text not null,
    batch_id            bigint,
    row_number          integer,
    invited_at          timestamptz,
    expires_at          timestamptz,
    not_before          timestamptz,
    tries               integer not null default 0,
    last_error          text,
    outcome             text check (outcome in ('revoked', 'already_revoked', 'accepted', 'gone', 'failed', 'skipped')),
    reason              text,
    attempt_id          bigint,
    read_id             bigint,
    decided_at          timestamptz,
    primary key (sweep_id, clerk_invitation_id),
    foreign key (batch_id, row_number) references results (batch_id, row_number),
    check ((outcome is null) = (decided_at is null))
) with (fillfactor = 85);
create index revocations_open on revocations (sweep_id) where outcome is null;
create index revocations_invitation on revocations (clerk_invitation_id, instance_id);
create index revocations_key on revocations (key, instance_id);
comment on table revocations is 'One row for each invitation that a sweep is to take back, and what came of it';
comment on column revocations.sweep_id is 'The sweep';
comment on column revocations.clerk_invitation_id is 'The invitation, by Clerk''s id';
comment on column revocations.key is 'The person, as results.key; the invitation''s id where its address is none that a file could name';
comment on column revocations.batch_id is 'The batch of the row that the invitation is of; NULL: no row of ours';
comment on column revocations.row_number is 'The row that the invitation is of';
comment on column revocations.invited_at is 'When Clerk made the invitation, by Clerk''s clock';
comment on column revocations.expires_at is 'When it expires, by Clerk''s word';
comment on column revocations.not_before is 'Backoff: not tried before this time';
comment on column revocations.tries is 'How many transient answers came';
comment on column revocations.last_error is 'The code of the last transient answer';
comment on column revocations.outcome is 'revoked by this sweep; already_revoked; accepted meanwhile; gone: Clerk does not know it; failed; skipped: nothing was sent; NULL: undecided';
comment on column revocations.reason is 'Why it failed or was skipped, in a word or a code';
comment on column revocations.attempt_id is 'The attempt that decided it';
comment on column revocations.read_id is 'The read that decided it, where the answer to the attempt was lost';
comment on column revocations.decided_at is 'When the outcome was recorded';

-- When a nightly sweep was first asked for: no night before is made up for.
create table schedules (
    instance_id bigint not null references instances,
    expression  text not null,
    tz          text not null,
    since       timestamptz not null default clock_timestamp(),
    primary key (instance_id, expression, tz)
);
comment on table schedules is 'The schedules that workers were started with';
comment on column schedules.expression is 'Cron expression: minute hour day month weekday';
comment on column schedules.tz is 'Its time zone, an IANA name; empty: the worker''s own';
comment on column schedules.since is 'When a worker first had it: no night before this time is made up for';

-- When the invitations of a batch go stale, where the sweep's own age is not to hold.
alter table batches add column revoke_after interval;
alter table results add column revoke_on date;
comment on column batches.revoke_after is 'How old a pending invitation of the batch may get before a sweep revokes it; NULL: the sweep''s own age';
comment on column results.revoke_on is 'A sweep revokes the pending invitation after this day; NULL: its age counts';
comment on table sightings is 'What reads showed at Clerk of people who are in a file, and of what a sweep takes back: invitations and users';
