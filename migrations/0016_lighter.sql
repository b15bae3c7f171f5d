-- +goose Up

-- At once, and in the order in which workers of the version before write them: a
-- claim of theirs that has read the ledger must not wait for an index that waits
-- for the claim.
lock table attempt_people, river_job in access exclusive mode;

-- River comes with indexes over the arguments and the metadata of jobs, for who
-- lists jobs by them. Nobody does: they took two fifths of what a waiting job takes
-- on the disk, and were written with each change of a job. River does without
-- indexes that are gone.
drop index river_job_args_index;
drop index river_job_metadata_index;

-- Each person of an attempt was in two indexes by their key. The one that is left
-- serves a person's story too, and a number finds the people of an attempt.
create unique index attempt_people_key_attempt on attempt_people (key, attempt_id);
create index attempt_people_attempt on attempt_people (attempt_id);
alter table attempt_people drop constraint attempt_people_pkey;
alter table attempt_people add constraint attempt_people_pkey primary key using index attempt_people_key_attempt;
drop index attempt_people_key;
