-- +goose Up

-- The rows of a large batch by what is wrong with them, by where their invitations
-- stand, and by an invitation that was there before; and those that back off,
-- without reading those that wait.
create index results_problem on results (batch_id, reason, row_number) where outcome = 'invalid';
create index results_status on results (batch_id, status, row_number) where status is not null;
create index results_other on results (clerk_invitation_id) where outcome = 'already_invited';
create index results_backoff on results (batch_id, not_before) where outcome is null and not_before is not null;
