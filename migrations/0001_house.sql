-- +goose Up

-- Whom we talk to. Batches, people, attempts and budgets belong to an instance.
create table instances (
    id          bigint generated always as identity primary key,
    clerk_id    text not null unique,
    environment text not null check (environment in ('production', 'development', 'sandbox')),
    created_at  timestamptz not null default now()
);
comment on table instances is 'The Clerk instances that this database has talked to';
comment on column instances.clerk_id is 'Clerk''s id of the instance (ins_…); "key:" and the key''s fingerprint where GET /instance is not to be had; "sandbox" for the stand-in inside the program';
comment on column instances.environment is 'production, development or sandbox';

-- The processes that live. A process that is declared dead loses its row, and with it the right to claim.
create table workers (
    id           text primary key,
    instance_id  bigint not null references instances,
    host         text not null,
    pid          integer not null,
    version      text not null,
    lock_key     bigint not null,
    started_at   timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp()
);
comment on table workers is 'The worker processes that live; id is also River''s client id';
comment on column workers.lock_key is 'The advisory lock that the process holds on a session of its own for as long as it lives';

create table batches (
    id           bigint generated always as identity primary key,
    instance_id  bigint not null references instances,
    file_name    text not null,
    file_sha256  bytea not null,
    file_bytes   bigint not null,
    encoding     text not null,
    delimiter    text not null,
    columns      text[] not null,
    actor        text not null,
    target       text not null default 'application',
    options      jsonb not null default '{}',
    priority     smallint not null default 2 check (priority between 1 and 4),
    preflight    boolean not null default true,
    state        text not null check (state in ('draft', 'running', 'paused', 'cancelled', 'done')),
    state_reason text,
    start_at     timestamptz,
    hours        int4multirange,
    tz           text,
    canary       integer,
    canary_row   integer,
    judged_from  timestamptz,
    rows         integer not null default 0,
    blank        integer not null default 0,
    created_at   timestamptz not null default clock_timestamp(),
    started_at   timestamptz,
    finished_at  timestamptz
);
create index batches_file on batches (instance_id, file_sha256);
create index batches_state on batches (instance_id, state) where state in ('running', 'paused');
comment on table batches is 'A file that somebody sent, with the options it was sent with';
comment on column batches.file_sha256 is 'SHA-256 of the file''s bytes as they were read';
comment on column batches.columns is 'The names of the file''s columns, in its order';
comment on column batches.actor is 'Who sent it: --actor, or the login name';
comment on column batches.options is 'What goes to Clerk with each invitation unless the row says otherwise: redirect_url, expires_in_days, template';
comment on column batches.priority is '1 (first) to 4 (last), kept by the whole fleet';
comment on column batches.preflight is 'Whether a claim needs a fresh read of Clerk''s users and pending invitations';
comment on column batches.state_reason is 'Why the batch stands where it does, where the program put it there';
comment on column batches.start_at is 'Nothing is sent before this time';
comment on column batches.hours is 'The hours of the day, by tz, in which invitations are sent; NULL: all';
comment on column batches.tz is 'The time zone of hours, an IANA name';
comment on column batches.canary is 'How many people are invited first, before the batch pauses and waits for a word';
comment on column batches.canary_row is 'The last row of the canary; NULL: there is none, or it was confirmed';
comment on column batches.judged_from is 'The breaker looks at rows decided after this time: when the batch was started or resumed';
comment on column batches.rows is 'How many rows the file has, blank lines apart';
comment on column batches.blank is 'Records whose cells are all empty: no rows, only counted';

-- The table that audit queries read: one row for each row of each file, for ever.
create table results (
    batch_id            bigint not null references batches,
    row_number          integer not null,
    instance_id         bigint not null references instances,
    line                integer not null,
    original            text[] not null,
    email               text,
    key                 text,
    redirect_url        text,
    expires_in_days     integer,
    public_metadata     jsonb,
    notes               text[],
    outcome             text check (outcome in ('invited', 'already_invited', 'already_registered', 'invalid', 'rejected', 'duplicate_row', 'failed', 'cancelled')),
    reason              text,
    duplicate_of        integer,
    clerk_invitation_id text,
    clerk_user_id       text,
    attempt_id          bigint,
    read_id             bigint,
    decided_at          timestamptz,
    status              text check (status in ('pending', 'accepted', 'revoked', 'expired')),
    status_at           timestamptz,
    invited_at          timestamptz,
    expires_at          timestamptz,
    users_read_id       bigint,
    not_before          timestamptz,
    transient_since     timestamptz,
    tries               integer not null default 0,
    last_error          text,
    alone               boolean not null default false,
    primary key (batch_id, row_number),
    check ((outcome is null) = (decided_at is null)),
    check (outcome is not null or (email is not null and key is not null))
) with (fillfactor = 85);
create index results_key on results (key, instance_id);
create index results_waiting on results (batch_id, row_number) where outcome is null;
create unique index results_ours on results (instance_id, clerk_invitation_id) where outcome = 'invited';
create index results_pending on results (instance_id, invited_at) where status = 'pending' and outcome = 'invited';
comment on table results is 'One row for each row of each file, for ever; invalid and duplicate rows too';
comment on column results.row_number is 'The row''s place among the file''s rows, from 1; the header and blank records are not counted';
comment on column results.line is 'The line of the file on which the row begins, from 1';
comment on column results.original is 'The row''s cells as the file has them, in the order of batches.columns';
comment on column results.email is 'The address that the invitation goes to; NULL where the row has none that could be read';
comment on column results.key is 'The person: the address in lower case, its domain in IDNA''s ASCII form; plus and dots kept';
comment on column results.redirect_url is 'The row''s own value; NULL: the batch''s';
comment on column results.expires_in_days is 'The row''s own value, in days; NULL: the batch''s';
comment on column results.public_metadata is 'What goes to Clerk as public_metadata; readable in the browser of the invited person';
comment on column results.notes is 'What was mended in the address';
comment on column results.outcome is 'How the row ended; NULL while undecided. Final, but for failed, which a retry opens again';
comment on column results.reason is 'Why, in a word or a code';
comment on column results.duplicate_of is 'For duplicate_row: the row_number of the row that stands';
comment on column results.clerk_invitation_id is 'Clerk''s id (inv_…) of the invitation that the outcome speaks of';
comment on column results.clerk_user_id is 'Clerk''s id (user_…) of the user that an already_registered row speaks of, where a read showed one';
comment on column results.attempt_id is 'The attempt whose answer proves the outcome';
comment on column results.read_id is 'The read that proves the outcome';
comment on column results.decided_at is 'When the outcome was recorded';
comment on column results.status is 'Where the invitation stands at Clerk, as far as we know';
comment on column results.status_at is 'When we learned the status';
comment on column results.invited_at is 'When Clerk made the invitation, by Clerk''s clock';
comment on column results.expires_at is 'When the invitation expires, by Clerk''s word';
comment on column results.users_read_id is 'The read of Clerk''s users that last covered the person';
comment on column results.not_before is 'Backoff: no claim before this time';
comment on column results.transient_since is 'When the first transient answer of the current run of tries came';
comment on column results.tries is 'How many transient answers came in the current run of tries';
comment on column results.last_error is 'The code of the last transient answer';
comment on column results.alone is 'The row goes next in a call of its own, so that Clerk''s answer can only speak of it';

create table sweeps (
    id          bigint generated always as identity primary key,
    instance_id bigint not null references instances,
    started_by  text not null,
    older_than  interval not null,
    scope       text not null default 'ours' check (scope in ('ours', 'all')),
    apply       boolean not null,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    scanned     integer not null default 0,
    stale       integer not null default 0,
    revoked     integer not null default 0,
    skipped     jsonb not null default '{}',
    failed      integer not null default 0,
    held        boolean not null default false
);
comment on table sweeps is 'Each sweep that ran, dry runs too';

-- One row for each request that could change something at Clerk, committed before it is sent.
create table attempts (
    id          bigint generated always as identity primary key,
    instance_id bigint not null references instances,
    bucket      text not null check (bucket in ('create', 'bulk', 'general')),
    call        text not null check (call in ('create', 'bulk', 'revoke')),
    worker_id   text not null,
    sweep_id    bigint references sweeps,
    started_at  timestamptz not null default clock_timestamp(),
    deadline    timestamptz not null,
    answered_at timestamptz,
    http_status integer,
    error_code  text,
    trace_id    text,
    read_after  timestamptz,
    resolved_at timestamptz,
    resolution  text check (resolution in ('answered', 'not_sent', 'refused', 'read'))
);
create index attempts_window on attempts (instance_id, bucket, coalesce(answered_at, deadline)) where resolution is distinct from 'not_sent';
create index attempts_open on attempts (instance_id, id) where resolved_at is null;
comment on table attempts is 'One row for each request that could change something at Clerk, committed before it was sent';
comment on column attempts.bucket is 'The budget that it counts against';
comment on column attempts.worker_id is 'The process that sent it (workers.id)';
comment on column attempts.sweep_id is 'The sweep that a revoke belongs to';
comment on column attempts.deadline is 'Nothing of it is written to the network after this time';
comment on column attempts.answered_at is 'When its answer was recorded; NULL: none came';
comment on column attempts.http_status is 'The answer''s HTTP status; NULL: no answer, or the connection broke';
comment on column attempts.error_code is 'Clerk''s error code, or ours (timeout, connection_closed, …) where Clerk gave none';
comment on column attempts.trace_id is 'Clerk-Trace-Id: what Clerk''s support finds the request by';
comment on column attempts.read_after is 'What is still unknown of it can be settled by a read that begins after this time; NULL: a settle time after the deadline';
comment on column attempts.resolved_at is 'When the last of its people was closed; NULL: open';
comment on column attempts.resolution is 'answered: the answer decided; not_sent: never written; refused: the answer proves that nothing was done; read: settled by reading Clerk';

create table attempt_people (
    attempt_id  bigint not null references attempts,
    instance_id bigint not null references instances,
    key         text not null,
    batch_id    bigint,
    row_number  integer,
    open        boolean not null default true,
    answer      text check (answer in ('created', 'exists', 'user', 'rejected', 'refused', 'revoked', 'gone', 'accepted')),
    error_code  text,
    clerk_invitation_id text,
    closed_at   timestamptz,
    resolution  text check (resolution in ('answered', 'not_sent', 'refused', 'ours', 'not_there', 'exists', 'user', 'read')),
    primary key (attempt_id, key),
    foreign key (batch_id, row_number) references results (batch_id, row_number)
);
create unique index attempt_people_claim on attempt_people (instance_id, key) where open;
create index attempt_people_row on attempt_people (batch_id, row_number);
comment on table attempt_people is 'Who was in an attempt. The unique index over open rows is the claim: nobody is asked for twice at a time';
comment on column attempt_people.open is 'While true, no other create leaves for this person';
comment on column attempt_people.answer is 'What the answer said of this person; NULL: nothing';
comment on column attempt_people.clerk_invitation_id is 'The invitation that the answer, or the read that settled it, showed';
comment on column attempt_people.resolution is 'How it was closed; not_there: a read that begun late enough did not show it';

create table late_answers (
    id          bigint generated always as identity primary key,
    attempt_id  bigint not null references attempts,
    received_at timestamptz not null default clock_timestamp(),
    http_status integer,
    error_code  text,
    trace_id    text,
    clerk_invitation_ids text[]
);
comment on table late_answers is 'Answers that came after their attempt was resolved; they change no outcome';

-- One row for each GET that decides or guards something.
create table reads (
    id           bigint generated always as identity primary key,
    instance_id  bigint not null references instances,
    worker_id    text not null,
    pass_id      bigint,
    call         text not null check (call in ('users', 'invitations', 'invitations_pending', 'invitations_revoked')),
    pass_begun_at timestamptz not null,
    begun_at     timestamptz not null default clock_timestamp(),
    ended_at     timestamptz,
    http_status  integer,
    error_code   text,
    trace_id     text,
    items        integer not null default 0,
    complete     boolean not null default false,
    reached      timestamptz
);
create index reads_call on reads (instance_id, call, pass_begun_at) where complete;
create index reads_begun on reads (instance_id, begun_at);
comment on table reads is 'One row for each GET that decided or guarded something';
comment on column reads.worker_id is 'The process that read (workers.id)';
comment on column reads.pass_id is 'The id of the first GET of a list read in pages; NULL: this is the first';
comment on column reads.pass_begun_at is 'When the first GET of the pass began';
comment on column reads.complete is 'The pass ended with this GET and reached as far as was asked';
comment on column reads.reached is 'How far back a complete list pass reached, by created_at; NULL: to the end';

create table sightings (
    instance_id bigint not null references instances,
    clerk_id    text not null,
    key         text not null,
    kind        text not null check (kind in ('invitation', 'user')),
    status      text,
    created_at  timestamptz,
    expires_at  timestamptz,
    first_read  bigint not null references reads,
    first_seen  timestamptz not null,
    last_read   bigint not null references reads,
    last_seen   timestamptz not null,
    primary key (instance_id, clerk_id, key)
);
create index sightings_key on sightings (key, instance_id);
comment on table sightings is 'What reads showed at Clerk of people who are in a file: invitations and users';
comment on column sightings.first_seen is 'When the first read that showed it ended';
comment on column sightings.last_seen is 'When the last read that showed it with this status began';

create table buckets (
    instance_id   bigint not null references instances,
    name          text not null check (name in ('create', 'bulk', 'general')),
    frozen_until  timestamptz,
    frozen_reason text,
    frozen_at     timestamptz,
    freezes       integer not null default 0,
    probe_attempt bigint,
    ceiling       integer,
    ceiling_at    timestamptz,
    primary key (instance_id, name)
);
comment on table buckets is 'Clerk''s limits as the fleet shares them: locked to reserve, frozen after a 429';

create table leases (
    id          bigint generated always as identity primary key,
    instance_id bigint not null references instances,
    worker_id   text not null,
    tokens      integer not null,
    leased_at   timestamptz not null default clock_timestamp(),
    use_by      timestamptz not null,
    settled_at  timestamptz
);
create index leases_window on leases (instance_id, coalesce(settled_at, use_by));
comment on table leases is 'Blocks of the general limit that a process took; weighs until a window after settled_at, or after use_by and a request timeout where it never settled';

create table events (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default clock_timestamp(),
    instance_id bigint references instances,
    batch_id    bigint references batches,
    actor       text not null,
    action      text not null,
    details     jsonb not null default '{}'
);
create index events_batch on events (batch_id, id);
comment on table events is 'Append-only: who did what to which batch and when';
