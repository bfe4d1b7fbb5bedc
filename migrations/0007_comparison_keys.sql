-- Names compare by one key: compatibility forms, composed and decomposed forms, letter case, surrounding blanks and invisible
-- characters make no difference (docs/decisions/0023). New keys come from the process; this function computes the same for
-- the rows that exist. Of two rows with the same new key, the first keeps it. The other keeps its old key, so that both can
-- be read and changed, and an entry of the activity log names both, so that an admin can rename one.
CREATE FUNCTION pg_temp.comparison_key(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT btrim(normalize(translate(lower(regexp_replace(regexp_replace(
           normalize($1, NFKC),
           '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]', '', 'g'), '[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]', ' ', 'g')), 'ς', 'σ'), NFKC))
$$;

WITH keyed AS (
  SELECT workspace_id, directory_id, id, user_name_key AS old_key, pg_temp.comparison_key(user_name) AS new_key FROM scim_users
), ranked AS (
  SELECT k.*,
         row_number() OVER same_name AS place,
         first_value(id) OVER same_name AS first_id
    FROM keyed k
  WINDOW same_name AS (PARTITION BY workspace_id, directory_id, new_key ORDER BY (old_key = new_key) DESC, id)
), moved AS (
  UPDATE scim_users t SET user_name_key = r.new_key
    FROM ranked r
   WHERE r.place = 1 AND r.old_key <> r.new_key
     AND (t.workspace_id, t.directory_id, t.id) = (r.workspace_id, r.directory_id, r.id)
)
INSERT INTO activity_entries (workspace_id, action, outcome, reason, actor_type, actor_id, target_type, target_id, detail)
SELECT workspace_id, 'scim_user.name_conflict', 'failed', 'uniqueness', 'system', 'migration', 'scim_user', id::text,
       jsonb_build_object('directoryId', directory_id, 'sameNameAs', first_id)
  FROM ranked WHERE place > 1;

WITH keyed AS (
  SELECT workspace_id, directory_id, id, display_name_key AS old_key, pg_temp.comparison_key(display_name) AS new_key FROM scim_groups
), ranked AS (
  SELECT k.*,
         row_number() OVER same_name AS place,
         first_value(id) OVER same_name AS first_id
    FROM keyed k
  WINDOW same_name AS (PARTITION BY workspace_id, directory_id, new_key ORDER BY (old_key = new_key) DESC, id)
), moved AS (
  UPDATE scim_groups t SET display_name_key = r.new_key
    FROM ranked r
   WHERE r.place = 1 AND r.old_key <> r.new_key
     AND (t.workspace_id, t.directory_id, t.id) = (r.workspace_id, r.directory_id, r.id)
)
INSERT INTO activity_entries (workspace_id, action, outcome, reason, actor_type, actor_id, target_type, target_id, detail)
SELECT workspace_id, 'scim_group.name_conflict', 'failed', 'uniqueness', 'system', 'migration', 'scim_group', id::text,
       jsonb_build_object('directoryId', directory_id, 'sameNameAs', first_id)
  FROM ranked WHERE place > 1;

UPDATE scim_users u
   SET email_keys = k.keys
  FROM (SELECT workspace_id, directory_id, id,
               ARRAY(SELECT DISTINCT pg_temp.comparison_key(e) FROM unnest(email_keys) e) AS keys
          FROM scim_users WHERE email_keys <> '{}') k
 WHERE (u.workspace_id, u.directory_id, u.id) = (k.workspace_id, k.directory_id, k.id)
   AND NOT (u.email_keys @> k.keys AND u.email_keys <@ k.keys);
