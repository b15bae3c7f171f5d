-- +goose Up

-- A person's whole story, and their erasure, without reading the whole ledger.
create index attempt_people_key on attempt_people (key);
