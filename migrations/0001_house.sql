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
    paused_by    text check (paused_by in ('person', 'canary', 'breaker', 'clerk')),
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
comment on column batches.paused_by is 'Who or what paused the batch: a person; its canary, which wants a look; the breaker, after too many refusals; clerk, which refuses every invitation; NULL: it is not paused';
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
    held        boolean not null default false,
    night       timestamptz,
    unique (instance_id, night)
);
comment on table sweeps is 'Each sweep that ran, dry runs too';
comment on column sweeps.night is 'The moment of the schedule that a nightly sweep stands for, so that no night is swept twice; NULL: somebody asked for it';

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

comment on column instances.id is 'Our number of it: the N of its queue, invite_N';
comment on column batches.id is 'The batch''s number, as people name it';
comment on column batches.instance_id is 'The Clerk instance that it belongs to';
comment on column batches.file_name is 'The file''s name, without its directory';
comment on column batches.file_bytes is 'The file''s size, in bytes';
comment on column batches.encoding is 'The character encoding that the file was read in';
comment on column batches.delimiter is 'The character between the file''s cells';
comment on column batches.target is 'Where people are invited to: the application';
comment on column batches.state is 'draft, running, paused, cancelled or done';
comment on column batches.created_at is 'When it was imported';
comment on column batches.started_at is 'When it was started; NULL: not yet';
comment on column batches.finished_at is 'When its last row was decided; NULL: not yet';
comment on column results.batch_id is 'The batch that the row belongs to';
comment on column results.instance_id is 'The batch''s Clerk instance';
comment on column sweeps.id is 'The sweep''s number';
comment on column sweeps.instance_id is 'The Clerk instance that was swept';
comment on column sweeps.started_by is 'Who asked, or "nightly sweep"';
comment on column sweeps.older_than is 'How old a pending invitation had to be';
comment on column sweeps.scope is 'ours: invitations that bulkinvite made; all: every one at the instance';
comment on column sweeps.apply is 'false: a dry run';
comment on column sweeps.started_at is 'When it began';
comment on column sweeps.finished_at is 'When it ended; NULL: it runs, or its process died';
comment on column sweeps.scanned is 'Pending invitations that were looked at';
comment on column sweeps.stale is 'Those of them that were too old';
comment on column sweeps.revoked is 'Those that it revoked, or found revoked';
comment on column sweeps.skipped is 'How many were left alone, by reason';
comment on column sweeps.failed is 'Refused, or the answer was lost: the next sweep sees to them';
comment on column sweeps.held is 'Whether it stopped at a threshold and waits for a person';
comment on column attempts.id is 'The attempt''s number';
comment on column attempts.instance_id is 'The Clerk instance that was asked';
comment on column attempts.call is 'create, bulk or revoke';
comment on column attempts.started_at is 'When it was committed to the ledger, before it was sent';
comment on column attempt_people.attempt_id is 'The attempt';
comment on column attempt_people.instance_id is 'The attempt''s Clerk instance';
comment on column attempt_people.key is 'The person, as results.key';
comment on column attempt_people.batch_id is 'The batch of the row that the person was asked for; NULL: no row of ours';
comment on column attempt_people.row_number is 'The row that the person was asked for';
comment on column attempt_people.error_code is 'The error code that the answer gave for the person';
comment on column attempt_people.closed_at is 'When it was closed for this person';
comment on column late_answers.attempt_id is 'The attempt that it answers';
comment on column late_answers.received_at is 'When it came';
comment on column late_answers.http_status is 'Its HTTP status';
comment on column late_answers.error_code is 'Its error code';
comment on column late_answers.trace_id is 'Its Clerk-Trace-Id';
comment on column late_answers.clerk_invitation_ids is 'The invitations that it showed';
comment on column reads.id is 'The read''s number';
comment on column reads.instance_id is 'The Clerk instance that was read';
comment on column reads.call is 'users, or which list of invitations';
comment on column reads.begun_at is 'When the GET began';
comment on column reads.ended_at is 'When its answer was recorded; NULL: none was';
comment on column reads.http_status is 'The answer''s HTTP status';
comment on column reads.error_code is 'Clerk''s error code, or ours';
comment on column reads.trace_id is 'Clerk-Trace-Id';
comment on column reads.items is 'How many items it showed';
comment on column sightings.clerk_id is 'Clerk''s id of what was seen (inv_… or user_…)';
comment on column sightings.key is 'The person, as results.key';
comment on column sightings.kind is 'invitation or user';
comment on column sightings.status is 'The invitation''s status when last seen';
comment on column sightings.created_at is 'When Clerk made it, by Clerk''s clock';
comment on column sightings.expires_at is 'When it expires';
comment on column sightings.first_read is 'The first read that showed it';
comment on column sightings.last_read is 'The last read that showed it';
comment on column events.id is 'The event''s number';
comment on column events.at is 'When it happened';
comment on column events.instance_id is 'The Clerk instance that it concerns';
comment on column events.batch_id is 'The batch that it concerns';
comment on column events.actor is 'Who did it: --actor, the login name, or bulkinvite itself';
comment on column events.action is 'What was done';
comment on column events.details is 'What else there is to know; never an address';
comment on column buckets.name is 'create, bulk or general';
comment on column buckets.frozen_until is 'Nothing is sent before this time; NULL: not frozen';
comment on column buckets.frozen_reason is 'Why it is frozen';
comment on column buckets.frozen_at is 'When it was frozen last';
comment on column buckets.freezes is '429 answers in a row';
comment on column buckets.probe_attempt is 'The request that tries whether Clerk takes requests again';
comment on column buckets.ceiling is 'What Clerk was seen to grant in a window, where that was less than the limit';
comment on column buckets.ceiling_at is 'When the ceiling was learned';
comment on column leases.worker_id is 'The process that took it';
comment on column leases.tokens is 'How many requests; after settled_at, how many were sent';
comment on column leases.use_by is 'None of them begins after this time';
comment on column leases.settled_at is 'When the last answer of its requests was there';
comment on column workers.id is 'The process, as attempts.worker_id';
comment on column workers.host is 'Its host';
comment on column workers.pid is 'Its process id';
comment on column workers.version is 'Its version';
comment on column workers.started_at is 'When it began';
comment on column workers.heartbeat_at is 'When it was last heard of';
comment on column instances.created_at is 'When it was first met';
comment on column late_answers.id is 'The late answer''s number';
comment on column leases.id is 'The lease''s number';
comment on column leases.leased_at is 'When it was taken';
