-- +goose Up

-- A session keeps what granted it, so that each request can compare that with the
-- server's configuration. Servers of the version before write neither column: the
-- sessions that they begin count at such servers alone.
alter table web_sessions
    add column id     bigint generated always as identity unique,
    add column proof  bytea,
    add column groups text[];
comment on column web_sessions.id is 'The session''s number';
comment on column web_sessions.proof is 'SHA-256 of what granted it: the user''s name and bcrypt hash, or the provider''s issuer and client; NULL for the one-time link';
comment on column web_sessions.groups is 'openid: which of the person''s groups had a role when they signed in; NULL for the others';
