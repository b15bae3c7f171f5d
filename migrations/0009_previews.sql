-- +goose Up

-- Who of a draft's people needs no invitation, for those who look at it before it
-- is started. Nothing is decided by this: the workers find it out again.
create table previews (
    batch_id    bigint primary key references batches,
    begun_at    timestamptz not null,
    looked_at   timestamptz,
    asked_clerk boolean not null default false,
    problem     text,
    registered  integer not null default 0,
    invited     integer not null default 0,
    pending     integer not null default 0,
    lapsed      integer not null default 0
);
comment on table previews is 'Who of a draft''s people needs no invitation, as it was shown before the start; decides nothing';
comment on column previews.batch_id is 'The draft';
comment on column previews.begun_at is 'When its people were last begun to be looked up';
comment on column previews.looked_at is 'When the counts were found; before begun_at: they are being looked up again; null: for the first time';
comment on column previews.asked_clerk is 'Whether Clerk was asked too, or our own rows alone';
comment on column previews.problem is 'Why Clerk did not tell, where it was asked';
comment on column previews.registered is 'People who are users';
comment on column previews.invited is 'People with an invitation of an earlier batch that may stand';
comment on column previews.pending is 'People with a pending invitation of somebody else';
comment on column previews.lapsed is 'People whose invitations of earlier batches were all revoked or have expired: invited again';
