-- +goose Up

-- A request whose answer was lost may reach Clerk later than the loss is recorded. It counts against a limit from its
-- deadline. There are few of them, and this index finds those that the index on the time of the answer leaves out.
create index attempts_lost on attempts (instance_id, bucket, deadline)
    where answered_at is not null and http_status is null and resolution is distinct from 'not_sent';
