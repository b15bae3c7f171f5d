-- +goose Up

-- A token may have a user's name, but what is done with it is told apart.
comment on column api_tokens.name is 'What it is for; what is done with it has the actor token:NAME';
