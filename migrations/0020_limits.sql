-- +goose Up

comment on column instances.clerk_id is 'Clerk''s id of the instance (ins_…); "sandbox" for the sandbox inside the program; key:… or retired:key:… where an earlier version used a key''s fingerprint';
