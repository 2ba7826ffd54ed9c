-- +goose Up

-- invited: a person who never signed in. auto_groups: JSON, the groups that machines of the person join.
ALTER TABLE "user" ADD COLUMN invited BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE "user" ADD COLUMN auto_groups TEXT NOT NULL DEFAULT '[]';

-- +goose Down
ALTER TABLE "user" DROP COLUMN auto_groups;
ALTER TABLE "user" DROP COLUMN invited;
