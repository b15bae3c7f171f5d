-- +goose Up
-- What auditors ask without asking about all of a table: what somebody did in a
-- month, when Clerk told us to slow down, whom it refused. The two partial ones
-- hold what is rare, and what fills their columns changes other indexes too, so
-- that they cost no update its HOT way.
create index attempts_throttled on attempts (id) where http_status = 429;
create index results_rejected on results (batch_id, row_number) where outcome = 'rejected';
-- Last, as in the order in which an import and an answer write these tables.
create index events_actor on events (actor, at);
