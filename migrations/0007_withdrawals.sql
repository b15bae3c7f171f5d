-- +goose Up

alter table results add column withdrawn_by bigint;
create index results_withdrawn on results (withdrawn_by) where withdrawn_by is not null;
comment on column results.withdrawn_by is 'The sweep that took the row away from the workers while it was undecided: it ends as cancelled, or, where a request had gone out, its invitation is revoked';

alter table sweeps add column cancelled integer not null default 0;
comment on column sweeps.cancelled is 'Rows that still waited and ended as cancelled';
