-- +goose Up

-- An undo and a correction look for the batches that correct a batch's rows.
create index batches_corrects on batches (corrects, corrects_row) where corrects is not null;

-- Reading a draft's file again makes its rows anew. People who were rescinded from
-- it stay out, also of a reading that has them on another row.
create table draft_withdrawals (
    batch_id bigint not null references batches,
    key      text not null,
    sweep_id bigint not null references sweeps,
    primary key (batch_id, key)
);
create index draft_withdrawals_key on draft_withdrawals (key);
comment on table draft_withdrawals is 'People who were rescinded from a draft whose file was read again since';
comment on column draft_withdrawals.batch_id is 'The draft';
comment on column draft_withdrawals.key is 'The person, as results.key';
comment on column draft_withdrawals.sweep_id is 'The sweep that took their row away, as results.withdrawn_by';
