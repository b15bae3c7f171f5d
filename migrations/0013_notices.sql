-- +goose Up

-- A notice is a job of River's, inserted by the change that it tells of, in the
-- same transaction and whichever part of the program makes it. It has ids alone;
-- what it says is read when it is sent.
-- +goose StatementBegin
create function insert_notice() returns trigger language plpgsql as $$
declare
    told jsonb;
begin
    if tg_table_name = 'sweeps' then
        told := jsonb_build_object('type', 'sweep.held', 'sweep', new.id);
    elsif new.state = 'paused' then
        told := jsonb_build_object('type', 'batch.paused', 'batch', new.id);
    else
        told := jsonb_build_object('type', 'batch.' || new.state, 'batch', new.id);
    end if;
    insert into river_job (args, kind, max_attempts, queue)
    values (told || jsonb_build_object('id', gen_random_uuid(), 'at', clock_timestamp()), 'notice', 12, 'notice_' || new.instance_id);
    return null;
end $$;
-- +goose StatementEnd
comment on function insert_notice is 'Inserts the job that tells of a batch that ended or paused itself, or of a sweep that is held';

create trigger batches_notice after update on batches for each row
    when (old.finished_at is null and new.finished_at is not null
       or new.state = 'paused' and old.state <> 'paused' and new.paused_by is distinct from 'person')
    execute function insert_notice();
create trigger sweeps_notice after insert on sweeps for each row
    when (new.held and new.apply)
    execute function insert_notice();
