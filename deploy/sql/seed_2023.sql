-- A seed for posthog_2023.sql: two teams with flags as December 2023 stored them. Loads into the empty tables, in one transaction.
--
--   team 1  Everflag Demo    the flags of seed_2026.sql's demo team that existed then, under the same token
--   team 2  Northwind Bikes  filters of every age, including those from before conditions were a list

BEGIN;

INSERT INTO posthog_organization
    (id, name, slug, created_at, updated_at, plugins_access_level, for_internal_metrics, enforce_2fa, is_member_join_email_enabled)
VALUES
    ('018c1a10-0000-7000-8000-000000000001', 'Everflag Demo', 'everflag-demo', '2023-02-01 09:00+00', '2023-09-01 09:00+00', 9, false, NULL, true),
    ('018c1a10-0000-7000-8000-000000000003', 'Northwind Bikes', 'northwind-bikes', '2021-11-30 17:45+00', '2023-08-02 06:03+00', 6, false, false, true);

INSERT INTO posthog_user
    (id, password, first_name, last_name, is_staff, is_active, date_joined, uuid, email, current_organization_id, current_team_id, distinct_id, events_column_config)
VALUES
    (1, '!', 'Robin', 'Demo', false, true, '2023-02-01 09:00+00', '018c1a11-0000-7000-8000-000000000001', 'robin@everflag.test',
     '018c1a10-0000-7000-8000-000000000001', 1, 'u-robin', '{"active": "DEFAULT"}'),
    (2, '!', 'Jonas', 'Spoke', false, true, '2021-11-30 17:45+00', '018c1a11-0000-7000-8000-000000000003', 'jonas@northwindbikes.test',
     '018c1a10-0000-7000-8000-000000000003', 2, 'u-jonas', '{"active": "DEFAULT"}');

INSERT INTO posthog_organizationmembership (id, level, joined_at, updated_at, organization_id, user_id)
SELECT ('018c1a12-0000-7000-8000-00000000000' || id)::uuid, 15, date_joined, date_joined, current_organization_id, id FROM posthog_user;

INSERT INTO posthog_team
    (id, uuid, organization_id, api_token, app_urls, name, created_at, updated_at, anonymize_ips, completed_snippet_onboarding, ingested_event,
     autocapture_opt_out, session_recording_opt_in, session_recording_sample_rate, session_recording_version, surveys_opt_in, capture_console_log_opt_in,
     capture_performance_opt_in, recording_domains, timezone, week_start_day, data_attributes, test_account_filters, path_cleaning_filters, access_control,
     is_demo, plugins_opt_in, opt_out_capture, event_names, event_names_with_usage, event_properties, event_properties_with_usage, event_properties_numerical)
VALUES
    (1, '018c1a13-0000-7000-8000-000000000001', '018c1a10-0000-7000-8000-000000000001', 'phc_demoEverflag2f6c9d1b8e4a7305', ARRAY['http://localhost:8000'],
     'Everflag Demo', '2023-02-01 09:00+00', '2023-11-01 12:00+00', false, true, true, NULL, false, NULL, NULL, true, true, true, NULL, 'UTC', 1,
     '["data-attr"]', '[]', '[]', false, true, false, false, '[]', '[]', '[]', '[]', '[]'),
    (2, '018c1a13-0000-7000-8000-000000000004', '018c1a10-0000-7000-8000-000000000003', 'phc_Nw8BikesR5tY2uI9oP4aS7dF1gH6jK3lZxCvBnM0qWe',
     ARRAY['https://northwindbikes.test'], 'Northwind Bikes', '2021-11-30 17:45+00', '2023-11-02 12:00+00', false, true, true, true, true, 0.5, 'v2', NULL, NULL,
     NULL, ARRAY['https://northwindbikes.test'], 'America/New_York', NULL, '["data-attr"]',
     '[{"key": "email", "type": "person", "value": "@northwindbikes.test", "operator": "not_icontains"}]', NULL, false, false, false, false,
     '[]', '[]', '[]', '[]', '[]');

INSERT INTO posthog_grouptypemapping (id, group_type, group_type_index, name_singular, name_plural, team_id)
VALUES (1, 'company', 0, 'Company', 'Companies', 1), (2, 'dealer', 0, NULL, NULL, 2), (3, 'country', 1, NULL, NULL, 2);

INSERT INTO posthog_cohort
    (id, name, description, deleted, filters, query, groups, version, pending_version, count, is_calculating, last_calculation, errors_calculating, is_static,
     created_at, created_by_id, team_id)
VALUES
    (1, 'Paying customers', '', false,
     '{"properties": {"type": "OR", "values": [{"type": "OR", "values": [{"key": "plan", "type": "person", "value": ["pro", "enterprise"], "operator": "exact"}]}]}}',
     NULL, '[]', 12, 12, 1840, false, '2023-11-20 03:00+00', 0, false, '2023-02-03 10:00+00', 1, 1),
    (2, 'Commuters', 'Stored before filters existed', false, NULL, NULL,
     '[{"properties": [{"key": "rides_to_work", "type": "person", "value": "true", "operator": "exact"}]}, {"properties": {"bike": "folding"}}]',
     4, 4, 77, false, '2023-11-20 03:00+00', 0, false, '2021-12-03 10:00+00', 2, 2);

INSERT INTO posthog_featureflag
    (id, key, name, filters, rollout_percentage, created_at, deleted, active, rollback_conditions, performed_rollback, ensure_experience_continuity,
     has_enriched_analytics, created_by_id, team_id, usage_dashboard_id)
SELECT id, key, name, filters::jsonb, rollout, created::timestamptz, deleted, active, NULL, NULL, continuity, false, team, team, NULL
FROM (VALUES
    (101, 1, 'dark-mode', 'On for everybody', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL::int, '2023-02-02 10:00+00', false, true, false),
    (102, 1, 'new-checkout', 'On for half of the users', '{"groups": [{"properties": [], "rollout_percentage": 50}]}', NULL, '2023-02-02 10:00+00', false, true, false),
    (103, 1, 'search-variant', 'Three ways to search, with a payload each',
     '{"groups": [{"properties": [], "rollout_percentage": 100}],
       "multivariate": {"variants": [{"key": "classic", "name": "As before", "rollout_percentage": 34},
           {"key": "fuzzy", "name": "Forgives typing errors", "rollout_percentage": 33}, {"key": "semantic", "name": "Understands", "rollout_percentage": 33}]},
       "payloads": {"classic": "{\"limit\": 10}", "fuzzy": "{\"limit\": 20, \"distance\": 2}", "semantic": "{\"limit\": 20, \"model\": \"small\"}"}}',
     NULL, '2023-03-02 10:00+00', false, true, false),
    (104, 1, 'beta-dashboard', 'For addresses at example.com',
     '{"groups": [{"properties": [{"key": "email", "type": "person", "value": "@example.com", "operator": "icontains"}], "rollout_percentage": 100}]}',
     NULL, '2023-03-02 10:00+00', false, true, NULL),
    (105, 1, 'pricing-page', 'Americans see the new page, others decide by lot',
     '{"groups": [{"properties": [{"key": "country", "type": "person", "value": ["US", "CA"], "operator": "exact"}], "rollout_percentage": 100, "variant": "new"},
           {"properties": [], "rollout_percentage": 100}],
       "multivariate": {"variants": [{"key": "old", "rollout_percentage": 50}, {"key": "new", "rollout_percentage": 50}]}, "payloads": {}}',
     NULL, '2023-04-02 10:00+00', false, true, false),
    (106, 1, 'company-reports', 'For whole companies with at least 100 seats',
     '{"groups": [{"properties": [{"key": "seats", "type": "group", "value": 100, "operator": "gte", "group_type_index": 0}], "rollout_percentage": 100}],
       "aggregation_group_type_index": 0}',
     NULL, '2023-04-02 10:00+00', false, true, false),
    (107, 1, 'priority-support', 'For the cohort of paying customers',
     '{"groups": [{"properties": [{"key": "id", "type": "cohort", "value": 1}], "rollout_percentage": 100}]}', NULL, '2023-05-02 10:00+00', false, true, false),
    (108, 1, 'legacy-import', 'Switched off', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL, '2023-05-02 10:00+00', false, false, false),

    (201, 2, 'old-homepage', 'No groups: properties and the column decide',
     '{"properties": [{"key": "email", "value": "@northwindbikes.test", "operator": "icontains"}]}', 30, '2021-12-05 10:00+00', false, true, NULL),
    (202, 2, 'old-rollout', 'No groups, no properties: the column decides', '{}', 60, '2021-12-05 10:00+00', false, true, NULL),
    (203, 2, 'blank', 'No groups, no properties, no column: the blank flag, on for everybody in its day', '{}', NULL, '2021-12-06 10:00+00', false, true, NULL),
    (204, 2, 'no-conditions', 'An empty list of conditions', '{"groups": []}', NULL, '2022-02-06 10:00+00', false, true, false),
    (205, 2, 'typeless', 'Properties without a type', '{"groups": [{"properties": [{"key": "bike", "value": "folding"}], "rollout_percentage": null}]}', NULL,
     '2022-03-06 10:00+00', false, true, false),
    (206, 2, 'string-order', 'Numbers compared as text, dates relative to now',
     '{"groups": [{"properties": [{"key": "rides", "type": "person", "value": "30", "operator": "lt"}], "rollout_percentage": 100},
           {"properties": [{"key": "joined", "type": "person", "value": "6m", "operator": "is_relative_date_before"}], "rollout_percentage": 100}]}', NULL,
     '2023-03-06 10:00+00', false, true, false),
    (207, 2, 'sticky-helmet', 'The same before and after login', '{"groups": [{"properties": [], "rollout_percentage": 50}]}', NULL, '2023-03-06 10:00+00', false,
     true, true),
    (208, 2, 'e-bikes', 'Early access',
     '{"groups": [{"properties": [], "rollout_percentage": 0}],
       "super_groups": [{"properties": [{"key": "$feature_enrollment/e-bikes", "type": "person", "operator": "exact", "value": ["true"]}], "rollout_percentage": 100}]}',
     NULL, '2023-09-06 10:00+00', false, true, false),
    (209, 2, 'commuters', 'For a cohort of the old form', '{"groups": [{"properties": [{"key": "id", "type": "cohort", "value": "2"}], "rollout_percentage": 100}]}', NULL,
     '2023-06-06 10:00+00', false, true, false),
    (210, 2, 'dealer-portal', 'For dealers', '{"groups": [{"properties": [], "rollout_percentage": 50}], "aggregation_group_type_index": 0, "payloads": {"true": {"a": 1}}}',
     NULL, '2023-06-06 10:00+00', false, true, false),
    (211, 2, 'summer-sale', 'Deleted; the key stays taken', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL, '2022-06-01 10:00+00', true, true, false)
) AS flag (id, team, key, name, filters, rollout, created, deleted, active, continuity);

-- 1,000 members by address: 60 kB that no compression helps, so the value lives out of line and an UPDATE of another column does not resend it.
INSERT INTO posthog_featureflag
    (id, key, name, filters, created_at, deleted, active, ensure_experience_continuity, has_enriched_analytics, created_by_id, team_id)
SELECT 212, 'club-members', 'A very long list',
    jsonb_build_object('groups', jsonb_build_array(jsonb_build_object('rollout_percentage', 100, 'properties', jsonb_build_array(jsonb_build_object(
        'key', 'email', 'type', 'person', 'operator', 'exact', 'value', (SELECT jsonb_agg(md5('member ' || n) || '@northwindbikes.test' ORDER BY n)
            FROM generate_series(1, 1000) AS n)))))),
    '2023-07-01 10:00+00', false, true, false, false, 2, 2;

INSERT INTO posthog_experiment (id, name, description, filters, parameters, secondary_metrics, start_date, created_at, updated_at, archived, created_by_id,
    feature_flag_id, team_id)
VALUES (1, 'Which search sells?', NULL, '{}', '{}', '[]', '2023-10-01 00:00+00', '2023-09-30 10:00+00', '2023-10-01 10:00+00', false, 1, 103, 1);

-- Explicit ids leave the sequences behind.
SELECT setval(pg_get_serial_sequence(name, 'id'), 1000)
FROM unnest(ARRAY['posthog_team', 'posthog_user', 'posthog_featureflag', 'posthog_cohort', 'posthog_grouptypemapping', 'posthog_experiment']) AS name;

COMMIT;
