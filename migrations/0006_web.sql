-- +goose Up

-- Who is signed in to the page. The cookie's value is kept as its hash alone.
create table web_sessions (
    hash       bytea primary key,
    user_name  text not null,
    role       text not null check (role in ('auditor', 'operator')),
    via        text not null check (via in ('password', 'link', 'openid')),
    created_at timestamptz not null default clock_timestamp(),
    used_at    timestamptz not null default clock_timestamp()
);
comment on table web_sessions is 'Who is signed in to the page';
comment on column web_sessions.hash is 'SHA-256 of the cookie''s value';
comment on column web_sessions.user_name is 'Who signed in; the actor of what they do';
comment on column web_sessions.role is 'auditor (reads) or operator (sends) at the time of signing in';
comment on column web_sessions.via is 'How they signed in: password; link: the one-time link; openid: the identity provider';
comment on column web_sessions.created_at is 'When they signed in; a session ends a fixed time after that';
comment on column web_sessions.used_at is 'When the session was last used, to the minute; it ends some time after that';

create table api_tokens (
    id           bigint generated always as identity primary key,
    hash         bytea not null unique,
    name         text not null,
    role         text not null check (role in ('auditor', 'operator')),
    created_by   text not null,
    created_at   timestamptz not null default clock_timestamp(),
    expires_at   timestamptz not null,
    used_at      timestamptz,
    revoked_at   timestamptz
);
comment on table api_tokens is 'What scripts sign their requests to the API with';
comment on column api_tokens.id is 'The token''s number';
comment on column api_tokens.hash is 'SHA-256 of the token; the token itself is shown once and kept nowhere';
comment on column api_tokens.name is 'What it is for; the actor of what is done with it';
comment on column api_tokens.role is 'auditor (reads) or operator (sends)';
comment on column api_tokens.created_by is 'Who made it';
comment on column api_tokens.created_at is 'When it was made';
comment on column api_tokens.expires_at is 'It is worth nothing after this time';
comment on column api_tokens.used_at is 'When it was last used, to the minute; NULL: never';
comment on column api_tokens.revoked_at is 'When it was revoked; NULL: it was not';

-- A file that somebody gave to the page, kept until its batch is started or
-- given up, so that it can be read again with other columns, by any process.
create table uploads (
    id              bigint generated always as identity primary key,
    instance_id     bigint not null references instances,
    actor           text not null,
    file_name       text not null,
    bytes           bigint not null default 0,
    options         jsonb not null default '{}',
    idempotency_key text,
    begun_at        timestamptz not null default clock_timestamp(),
    received_at     timestamptz,
    checked_at      timestamptz,
    batch_id        bigint unique references batches,
    summary         jsonb,
    failure         jsonb
);
create unique index uploads_idempotency on uploads (actor, idempotency_key) where idempotency_key is not null;
comment on table uploads is 'Files that came by the page or the API, on their way to being batches';
comment on column uploads.id is 'The upload''s number';
comment on column uploads.instance_id is 'The Clerk instance that it is for';
comment on column uploads.actor is 'Who sent it';
comment on column uploads.file_name is 'The file''s name, without its directory';
comment on column uploads.bytes is 'How much of it has come, in bytes';
comment on column uploads.options is 'How it is to be read, and what its batch begins with: map, delimiter, encoding, again';
comment on column uploads.idempotency_key is 'The request''s Idempotency-Key: the same key by the same actor is the same upload';
comment on column uploads.begun_at is 'When it began to come';
comment on column uploads.received_at is 'When all of it was there; NULL: it is coming, or was cut off';
comment on column uploads.checked_at is 'When it was last read to its end; NULL: not since the way to read it was last changed';
comment on column uploads.batch_id is 'The batch that was made of it; NULL: none yet';
comment on column uploads.summary is 'What the last reading found: counts, columns, the first problems; no cell of a row';
comment on column uploads.failure is 'Why it can''t be read, what to do, and the columns that it has; NULL: it can be';

create table upload_chunks (
    upload_id bigint not null references uploads on delete cascade,
    number    integer not null,
    data      bytea not null,
    primary key (upload_id, number)
);
alter table upload_chunks alter column data set storage external;
comment on table upload_chunks is 'The bytes of an upload; deleted when its batch is started or cancelled';
comment on column upload_chunks.upload_id is 'The upload';
comment on column upload_chunks.number is 'The piece''s place, from 0';
comment on column upload_chunks.data is 'The bytes, as they came';

-- Beginnings of addresses are looked for, whatever the database's collation;
-- this index serves equality as the one before did.
drop index results_key;
create index results_key on results (key text_pattern_ops, instance_id);

-- A page of the rows that ended in one way, and their numbers, without reading
-- a million others.
create index results_outcome on results (batch_id, outcome, row_number) include (status) where outcome is not null;
