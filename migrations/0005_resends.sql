-- +goose Up

alter table batches
    add column on_duplicate text not null default 'skip' check (on_duplicate in ('skip', 'resend')),
    add column cooldown     interval not null default '3 days',
    add column resend_of    bigint references batches,
    add column corrects     bigint references batches,
    add column corrects_row integer,
    add column links_file   text,
    add check (links_file is null or on_duplicate = 'skip'),
    add check ((corrects is null) = (corrects_row is null)),
    add foreign key (corrects, corrects_row) references results (batch_id, row_number);
comment on column batches.on_duplicate is 'What becomes of people whose invitation is pending: skip, or resend, which revokes it and invites them again';
comment on column batches.cooldown is 'For resend: nobody is invited again who was so less than this long ago, by any batch';
comment on column batches.resend_of is 'The batch whose people this one invites again; NULL: it is no resend';
comment on column batches.corrects is 'The batch whose row this one sets right; NULL: it corrects none';
comment on column batches.corrects_row is 'The row that this batch sets right';
comment on column batches.links_file is 'The file that gets the links, where Clerk mails nobody: an absolute path on the sender''s machine; NULL: Clerk mails the invitations';
create index batches_resend on batches (resend_of) where resend_of is not null;

alter table results
    add column revoke_sent timestamptz;
comment on column results.revoke_sent is 'When a revocation that makes room for this row''s own invitation was put into the ledger, unless it is proven to have done nothing. While the row is undecided it goes first, and nothing can stop it';
create index results_halfway on results (instance_id, revoke_sent) where revoke_sent is not null and outcome is null;

alter table attempts
    add column under bigint references attempts;
comment on column attempts.under is 'For a revocation: the create under whose claim it runs, and for which it makes room; NULL: it stands alone';
create index attempts_under on attempts (under) where under is not null;
