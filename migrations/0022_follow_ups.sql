-- +goose Up

-- An undo and a correction look for the batches that correct a batch's rows.
create index batches_corrects on batches (corrects, corrects_row) where corrects is not null;
