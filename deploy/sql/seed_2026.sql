-- A seed for posthog_2026.sql: five teams of three companies, with flags of every kind. Loads into the empty tables, in one transaction.
--
--   team 1  Everflag Demo           what `make demo` shows: short keys, one idea per flag
--   team 2  Harbour Books           every kind of flag that evaluation knows; both secret tokens (one rotated away)
--   team 3  Harbour Books, staging  a second environment of project 2; a key that team 2 has too
--   team 4  Northwind Bikes         flags as they look after years: deleted, archived, inactive, huge, legacy filters
--   team 5  Kestrel Clinic          no flags yet, no settings
--
-- The demo's two users: ada  {"email": "ada@example.com", "country": "GB", "plan": "free"}
--                       grace {"email": "grace@acme.test", "country": "US", "plan": "enterprise"}, group company "acme" {"plan": "enterprise", "seats": 250}

BEGIN;

INSERT INTO posthog_organization
    (id, name, slug, created_at, updated_at, plugins_access_level, for_internal_metrics, enforce_2fa, is_member_join_email_enabled, usage, customer_id,
     never_drop_data)
VALUES
    ('018c1a10-0000-7000-8000-000000000001', 'Everflag Demo', 'everflag-demo', '2024-02-01 09:00+00', '2026-09-01 09:00+00', 9, false, NULL, true, NULL, NULL, NULL),
    ('018c1a10-0000-7000-8000-000000000002', 'Harbour Books', 'harbour-books', '2023-05-11 08:12+00', '2026-10-20 14:31+00', 9, false, true, true,
     '{"events": {"usage": 18234411, "limit": 50000000}}', NULL, false),
    ('018c1a10-0000-7000-8000-000000000003', 'Northwind Bikes', 'northwind-bikes', '2021-11-30 17:45+00', '2026-08-02 06:03+00', 6, false, false, true, NULL, NULL, NULL);

-- The circle of user and team closes at COMMIT: the foreign keys are deferred.
INSERT INTO posthog_user
    (id, password, last_login, first_name, last_name, is_staff, is_active, date_joined, uuid, email, current_organization_id, current_team_id, distinct_id,
     theme_mode, partial_notification_settings, events_column_config)
VALUES
    (1, '!', '2026-10-01 08:00+00', 'Robin', 'Demo', false, true, '2024-02-01 09:00+00', '018c1a11-0000-7000-8000-000000000001', 'robin@everflag.test',
     '018c1a10-0000-7000-8000-000000000001', 1, 'u-robin', 'system', NULL, '{"active": "DEFAULT"}'),
    (2, '!', '2026-11-02 07:41+00', 'Maeve', 'Quill', true, true, '2023-05-11 08:12+00', '018c1a11-0000-7000-8000-000000000002', 'maeve@harbourbooks.test',
     '018c1a10-0000-7000-8000-000000000002', 2, 'u-maeve', 'dark', '{"plugin_disabled": true}', '{"active": "DEFAULT"}'),
    (3, '!', NULL, 'Jonas', 'Spoke', false, true, '2021-11-30 17:45+00', '018c1a11-0000-7000-8000-000000000003', 'jonas@northwindbikes.test',
     '018c1a10-0000-7000-8000-000000000003', 4, 'u-jonas', NULL, NULL, '{"active": "DEFAULT"}');

INSERT INTO posthog_organizationmembership (id, level, joined_at, updated_at, organization_id, user_id)
SELECT ('018c1a12-0000-7000-8000-00000000000' || id)::uuid, 15, date_joined, date_joined, current_organization_id, id FROM posthog_user;

INSERT INTO posthog_project (id, organization_id, name, created_at, product_description)
VALUES
    (1, '018c1a10-0000-7000-8000-000000000001', 'Everflag Demo', '2024-02-01 09:00+00', NULL),
    (2, '018c1a10-0000-7000-8000-000000000002', 'Harbour Books', '2023-05-11 08:12+00', 'An online shop for second-hand books'),
    (4, '018c1a10-0000-7000-8000-000000000003', 'Northwind Bikes', '2021-11-30 17:45+00', NULL),
    (5, '018c1a10-0000-7000-8000-000000000003', 'Kestrel Clinic', '2026-10-30 10:00+00', NULL);

-- What differs from team to team stands in the list below, what Django would fill in stands above it.
INSERT INTO posthog_team
    (id, uuid, organization_id, parent_team_id, project_id, api_token, secret_api_token, secret_api_token_backup, app_urls, name, created_at, updated_at,
     anonymize_ips, completed_snippet_onboarding, has_completed_onboarding_for, ingested_event, autocapture_opt_out, autocapture_web_vitals_opt_in,
     autocapture_web_vitals_allowed_metrics, autocapture_exceptions_opt_in, autocapture_exceptions_errors_to_ignore, session_recording_opt_in,
     session_recording_sample_rate, session_recording_minimum_duration_milliseconds, session_recording_linked_flag,
     session_recording_network_payload_capture_config, session_recording_masking_config, session_recording_url_trigger_config,
     session_recording_url_blocklist_config, session_recording_event_trigger_config, session_recording_trigger_match_type_config,
     session_recording_retention_period, session_recording_version, survey_config, surveys_opt_in, capture_console_log_opt_in, capture_performance_opt_in,
     capture_dead_clicks, heatmaps_opt_in, inject_web_apps, recording_domains, flags_persistence_default, cookieless_server_hash_mode, extra_settings,
     timezone, week_start_day, data_attributes, person_display_name_properties, test_account_filters, path_cleaning_filters, base_currency, access_control,
     is_demo, plugins_opt_in, opt_out_capture, event_names, event_names_with_usage, event_properties, event_properties_with_usage,
     event_properties_numerical)
SELECT
    id, ('018c1a13-0000-7000-8000-00000000000' || id)::uuid, organization::uuid, parent, project, token, secret, backup, urls, name, created::timestamptz,
    '2026-11-01 12:00+00', anonymize, true, '{"feature_flags": true}', name <> 'Kestrel Clinic', autocapture_off, web_vitals,
    CASE WHEN web_vitals THEN '["CLS", "FCP", "INP", "LCP"]'::jsonb END, exceptions, CASE WHEN exceptions THEN '["ResizeObserver loop"]'::jsonb END, recording,
    rate, minimum, linked::jsonb,
    CASE WHEN recording THEN '{"recordHeaders": true, "recordBody": false}'::jsonb END, CASE WHEN recording THEN '{"maskAllInputs": true}'::jsonb END,
    CASE WHEN recording THEN ARRAY['{"url": "/checkout", "matching": "regex"}'::jsonb] ELSE '{}'::jsonb[] END,
    '{}'::jsonb[], CASE WHEN recording THEN ARRAY['order placed', NULL]::text[] END, CASE WHEN recording THEN 'any' END,
    '30d', CASE WHEN recording THEN 'v2' END, CASE WHEN surveys THEN '{"appearance": {"theme": "light"}}'::jsonb END, surveys, true, true,
    recording, recording, false, urls, true, cookieless, NULL,
    zone, 1, '["data-attr"]', ARRAY['email', 'name'], filters::jsonb, '[]', 'USD', false,
    id = 1, false, false, '[]', '[]', '[]', '[]', '[]'
FROM (VALUES
    (1, '018c1a10-0000-7000-8000-000000000001', NULL::int, 1, 'phc_demoEverflag2f6c9d1b8e4a7305', 'phs_demoEverflag83b1f0c6a94e2d57', NULL,
     ARRAY['http://localhost:8000'], 'Everflag Demo', '2024-02-01 09:00+00', false, NULL::bool, true, NULL::bool, false, NULL::numeric, NULL::int, NULL, true,
     0, 'UTC', '[]'),
    (2, '018c1a10-0000-7000-8000-000000000002', NULL, 2, 'phc_hB7qPz2LkV9xWc4RtY6uNm1JsD8fGa3EoQ5iTbXv0Zr', 'phs_Q4wN8sLpX2dVz6RkT9yMb3HcF7jGa1UeW5oIq0BnJx',
     'phs_oldK3mZ8vRt6YpL2xNc9WbQ4sHd7JfGa5UeTi1OoXq', ARRAY['https://harbourbooks.test', 'https://www.harbourbooks.test'], 'Harbour Books',
     '2023-05-11 08:12+00', true, false, true, true, true, 0.25, 2000, '{"id": 205, "key": "recordings-beta", "variant": "on"}', true, 2, 'Europe/London',
     '[{"key": "email", "type": "person", "value": "@harbourbooks.test", "operator": "not_icontains"}]'),
    (3, '018c1a10-0000-7000-8000-000000000002', 2, 2, 'phc_sT4gInGx8VbN2mQw6ErT9yUiO3pAs7DfGhJ1kLzXcVb', 'phs_sT4gInG5nB8vC2xZ9lK6jH3gF1dS7aPoIuYtReWqMnB', NULL,
     ARRAY['https://staging.harbourbooks.test'], 'Harbour Books, staging', '2025-01-20 10:00+00', true, false, NULL, NULL, false, NULL, NULL, NULL, NULL, 0,
     'Europe/London', '[]'),
    (4, '018c1a10-0000-7000-8000-000000000003', NULL, 4, 'phc_Nw8BikesR5tY2uI9oP4aS7dF1gH6jK3lZxCvBnM0qWe', NULL, NULL, ARRAY['https://northwindbikes.test'],
     'Northwind Bikes', '2021-11-30 17:45+00', false, true, NULL, NULL, false, NULL, NULL, NULL, false, NULL, 'America/New_York', '[]'),
    (5, '018c1a10-0000-7000-8000-000000000003', NULL, 5, 'phc_kEsTreLcLiN1c9mN2bV5cX8zL4kJ7hG3fD6sA0pOiUy', NULL, NULL, ARRAY[]::text[], 'Kestrel Clinic',
     '2026-10-30 10:00+00', true, NULL, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 'UTC', '[]')
) AS team (id, organization, parent, project, token, secret, backup, urls, name, created, anonymize, autocapture_off, web_vitals, exceptions, recording, rate,
    minimum, linked, surveys, cookieless, zone, filters);

INSERT INTO feature_flags_teamfeatureflagsconfig
    (team_id, minimal_flag_called_events, property_matching_version, max_feature_flags_override, flag_evaluations_mode)
VALUES (1, false, 1, NULL, 0), (2, true, 2, 500, 0);

INSERT INTO posthog_grouptypemapping (id, group_type, group_type_index, name_singular, name_plural, default_columns, created_at, project_id, team_id)
VALUES
    (1, 'company', 0, 'Company', 'Companies', ARRAY['group_name', 'plan'], '2024-02-01 09:00+00', 1, 1),
    (2, 'shop', 0, 'Shop', 'Shops', NULL, NULL, 2, 2),
    (3, 'organization', 1, NULL, NULL, NULL, NULL, 2, 2),
    (4, 'dealer', 0, 'Dealer', 'Dealers', NULL, NULL, 4, 4);

INSERT INTO posthog_cohort
    (id, name, description, deleted, filters, query, groups, version, pending_version, count, is_calculating, last_calculation, errors_calculating, is_static,
     cohort_type, created_at, created_by_id, team_id)
VALUES
    (1, 'Paying customers', '', false,
     '{"properties": {"type": "OR", "values": [{"type": "OR", "values": [{"key": "plan", "type": "person", "value": ["pro", "enterprise"], "operator": "exact"}]}]}}',
     NULL, '[]', 12, 12, 1840, false, '2026-11-20 03:00+00', 0, false, 'person_property', '2024-02-03 10:00+00', 1, 1),
    (2, 'Readers in Britain', 'Country is GB and not a test account', false,
     '{"properties": {"type": "AND", "values": [
         {"type": "AND", "values": [{"key": "country", "type": "person", "value": "GB", "operator": "exact"}]},
         {"type": "AND", "values": [{"key": "email", "type": "person", "value": "@harbourbooks.test", "operator": "icontains", "negation": true}]}]}}',
     NULL, '[]', 88, 89, 120344, true, '2026-11-21 03:00+00', 0, false, 'person_property', '2023-06-01 10:00+00', 2, 2),
    (3, 'Loyal readers in Britain', 'A cohort made of another', false,
     '{"properties": {"type": "AND", "values": [
         {"type": "AND", "values": [{"key": "id", "type": "cohort", "value": 2, "negation": false}]},
         {"type": "AND", "values": [{"key": "orders", "type": "person", "value": 10, "operator": "gte"}]}]}}',
     NULL, '[]', 40, 40, 5120, false, '2026-11-21 03:00+00', 0, false, 'person_property', '2023-06-02 10:00+00', 2, 2),
    (4, 'Invited by hand', 'Uploaded list', false, '{"properties": {}}', NULL, '[]', NULL, NULL, 312, false, NULL, 0, true, 'static', '2024-03-01 10:00+00', 2, 2),
    (5, 'Bought twice in 30 days', 'Behavioural: cannot be told from properties', false,
     '{"properties": {"type": "OR", "values": [{"type": "OR", "values": [{"key": "order placed", "type": "behavioral", "value": "performed_event_multiple",
         "operator": "gte", "operator_value": 2, "event_type": "events", "time_value": 30, "time_interval": "day"}]}]}}',
     NULL, '[]', 7, 7, 911, false, '2026-11-19 03:00+00', 1, false, 'behavioral', '2024-04-01 10:00+00', 2, 2),
    (6, 'Old idea', '', true, NULL, NULL, '[{"properties": [{"key": "plan", "type": "person", "value": "trial"}]}]', 1, 1, 0, false, NULL, 3, false, NULL,
     '2022-01-01 10:00+00', 3, 4);

INSERT INTO posthog_dashboard (id, name, description, pinned, deleted, created_at, last_accessed_at, filters, creation_mode, created_by_id, team_id)
VALUES (1, 'Generated Dashboard: search-ranking Usage', '', false, false, '2025-02-02 10:00+00', '2026-11-01 10:00+00', '{}', 'template', 2, 2);

INSERT INTO posthog_experimentholdout (id, name, description, filters, created_at, updated_at, created_by_id, team_id)
VALUES (1, 'Never in a test', NULL, '[{"properties": [], "rollout_percentage": 5, "variant": "holdout-1"}]', '2025-01-10 10:00+00', '2025-01-10 10:00+00', 2, 2);

-- Flags of the demo team --------------------------------------------------------------------------------------------------------------------------------

INSERT INTO posthog_featureflag
    (id, key, name, filters, created_at, updated_at, deleted, active, archived, version, ensure_experience_continuity, has_enriched_analytics,
     is_remote_configuration, has_encrypted_payloads, evaluation_runtime, bucketing_identifier, created_by_id, last_modified_by_id, team_id)
SELECT id, key, name, filters::jsonb, '2024-02-02 10:00+00', '2026-10-01 10:00+00', false, active, false, 1, false, false,
    false, false, 'all', 'distinct_id', 1, 1, 1
FROM (VALUES
    (101, 'dark-mode', 'On for everybody', true,
     '{"groups": [{"properties": [], "rollout_percentage": 100}]}'),
    (102, 'new-checkout', 'On for half of the users', true,
     '{"groups": [{"properties": [], "rollout_percentage": 50}]}'),
    (103, 'search-variant', 'Three ways to search, with a payload each', true,
     '{"groups": [{"properties": [], "rollout_percentage": 100}],
       "multivariate": {"variants": [{"key": "classic", "name": "As before", "rollout_percentage": 34},
           {"key": "fuzzy", "name": "Forgives typing errors", "rollout_percentage": 33}, {"key": "semantic", "name": "Understands", "rollout_percentage": 33}]},
       "payloads": {"classic": "{\"limit\": 10}", "fuzzy": "{\"limit\": 20, \"distance\": 2}", "semantic": "{\"limit\": 20, \"model\": \"small\"}"}}'),
    (104, 'beta-dashboard', 'For addresses at example.com', true,
     '{"groups": [{"properties": [{"key": "email", "type": "person", "value": "@example.com", "operator": "icontains"}], "rollout_percentage": 100}]}'),
    (105, 'pricing-page', 'Americans see the new page, others decide by lot', true,
     '{"groups": [{"properties": [{"key": "country", "type": "person", "value": ["US", "CA"], "operator": "exact"}], "rollout_percentage": 100, "variant": "new"},
           {"properties": [], "rollout_percentage": 100}],
       "multivariate": {"variants": [{"key": "old", "name": null, "rollout_percentage": 50}, {"key": "new", "name": null, "rollout_percentage": 50}]},
       "payloads": {}}'),
    (106, 'company-reports', 'For whole companies with at least 100 seats', true,
     '{"groups": [{"properties": [{"key": "seats", "type": "group", "value": 100, "operator": "gte", "group_type_index": 0}], "rollout_percentage": 100}],
       "aggregation_group_type_index": 0}'),
    (107, 'priority-support', 'For the cohort of paying customers', true,
     '{"groups": [{"properties": [{"key": "id", "type": "cohort", "value": 1, "operator": "in", "cohort_name": "Paying customers"}], "rollout_percentage": 100}]}'),
    (108, 'legacy-import', 'Switched off', false,
     '{"groups": [{"properties": [], "rollout_percentage": 100}]}')
) AS flag (id, key, name, active, filters);

-- Flags of Harbour Books: one of each kind --------------------------------------------------------------------------------------------------------------

INSERT INTO posthog_featureflag
    (id, key, name, filters, created_at, updated_at, deleted, active, archived, version, ensure_experience_continuity, has_enriched_analytics,
     is_remote_configuration, has_encrypted_payloads, evaluation_runtime, bucketing_identifier, last_called_at, created_by_id, last_modified_by_id, team_id)
SELECT id, key, name, filters::jsonb, '2025-02-02 10:00+00', '2026-11-02 08:00+00', false, true, false, version, continuity, false,
    remote, encrypted, runtime, bucketing, '2026-11-21 04:00+00', 2, 2, 2
FROM (VALUES
    (201, 'gift-wrapping', 'Boolean, a quarter and a half', 3, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 25.5}], "payloads": {"true": "\"https://harbourbooks.test/gifts\""}}'),
    (202, 'search-ranking', 'An experiment', 9, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 80}],
       "multivariate": {"variants": [{"key": "control", "rollout_percentage": 50}, {"key": "test", "rollout_percentage": 50}]},
       "payloads": {"test": "{\"boost\": 1.25}", "holdout-1": "{\"boost\": 0}"},
       "holdout": {"id": 1, "exclusion_percentage": 5}, "holdout_groups": [{"properties": [], "rollout_percentage": 5, "variant": "holdout-1"}]}'),
    (203, 'operators-text', 'Text operators, a condition each', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [
         {"properties": [{"key": "email", "type": "person", "value": "maeve@harbourbooks.test", "operator": "exact"}], "rollout_percentage": 100},
         {"properties": [{"key": "plan", "type": "person", "value": ["pro", "team"]}], "rollout_percentage": 100},
         {"properties": [{"key": "country", "type": "person", "value": ["GB", "IE"], "operator": "is_not"},
             {"key": "country", "type": "person", "value": "is_set", "operator": "is_set"}], "rollout_percentage": 40},
         {"properties": [{"key": "utm_source", "type": "person", "value": "news", "operator": "icontains"},
             {"key": "email", "type": "person", "value": "+test", "operator": "not_icontains"}], "rollout_percentage": 100},
         {"properties": [{"key": "$browser_version", "type": "person", "value": "^1[0-9]{2}$", "operator": "regex"},
             {"key": "email", "type": "person", "value": "(?i)\\.edu$", "operator": "not_regex"}], "rollout_percentage": 60},
         {"properties": [{"key": "deleted_at", "type": "person", "value": "is_not_set", "operator": "is_not_set"},
             {"key": "beta", "type": "person", "value": "true", "operator": "exact"}], "rollout_percentage": 100}]}'),
    (204, 'operators-order', 'Numbers, dates and versions, a condition each', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [
         {"properties": [{"key": "orders", "type": "person", "value": 20, "operator": "gt"}], "rollout_percentage": 100},
         {"properties": [{"key": "orders", "type": "person", "value": "3", "operator": "gte"}, {"key": "age", "type": "person", "value": 25, "operator": "lt"}],
          "rollout_percentage": 100},
         {"properties": [{"key": "returns", "type": "person", "value": 1, "operator": "lte"}, {"key": "orders", "type": "person", "value": [5, 9], "operator": "between"}],
          "rollout_percentage": 50},
         {"properties": [{"key": "signed_up", "type": "person", "value": "-30d", "operator": "is_date_after"}], "rollout_percentage": 100},
         {"properties": [{"key": "signed_up", "type": "person", "value": "2024-01-01", "operator": "is_date_before"}], "rollout_percentage": 100},
         {"properties": [{"key": "app_version", "type": "person", "value": "3.8.0", "operator": "semver_gte"}], "rollout_percentage": 100}]}'),
    (205, 'recordings-beta', 'Linked to session recording', 2, false, false, false, 'client', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 100}], "multivariate": {"variants": [{"key": "on", "rollout_percentage": 10}, {"key": "off", "rollout_percentage": 90}]}}'),
    (206, 'shop-window', 'For shops, by their own key', 4, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "city", "type": "group", "value": ["Bristol", "Leith"], "operator": "exact", "group_type_index": 0}], "rollout_percentage": 100},
           {"properties": [], "rollout_percentage": 15}], "aggregation_group_type_index": 0}'),
    (207, 'mixed-targeting', 'Persons in one condition, shops in the other', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "beta", "type": "person", "value": ["true"], "operator": "exact"}], "rollout_percentage": 100, "aggregation_group_type_index": null},
           {"properties": [], "rollout_percentage": 30, "aggregation_group_type_index": 0}]}'),
    (208, 'loyalty-card', 'For a cohort that contains a cohort', 2, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "id", "type": "cohort", "value": 3, "operator": "in"}], "rollout_percentage": 100}]}'),
    (209, 'invited-only', 'For an uploaded list, and not for another cohort', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "id", "type": "cohort", "value": 4, "operator": "in"}, {"key": "id", "type": "cohort", "value": 5, "operator": "not_in"}],
           "rollout_percentage": 100}]}'),
    (210, 'gift-cards', 'Only where gift wrapping is on', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "201", "type": "flag", "value": true, "operator": "flag_evaluates_to"}], "rollout_percentage": 100}]}'),
    (211, 'ranking-banner', 'Only for the tested ranking, and a link in a chain of three', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "202", "type": "flag", "value": "test", "operator": "flag_evaluates_to"},
           {"key": "210", "type": "flag", "value": false, "operator": "flag_evaluates_to"}], "rollout_percentage": 100}]}'),
    (212, 'reading-list', 'Early access, as of today', 2, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 0}], "feature_enrollment": true}'),
    (213, 'audio-books', 'Early access, as it was stored until 2026', 6, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 0}],
       "super_groups": [{"properties": [{"key": "$feature_enrollment/audio-books", "type": "person", "operator": "exact", "value": ["true"]}], "rollout_percentage": 100}]}'),
    (214, 'sticky-banner', 'The same before and after login', 5, true, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 50}], "multivariate": {"variants": [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]}}'),
    (215, 'device-splash', 'By device, whoever uses it', 1, false, false, false, 'client', 'device_id',
     '{"groups": [{"properties": [], "rollout_percentage": 33.34}]}'),
    (216, 'server-batch', 'For servers only', 1, false, false, false, 'server', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 100}]}'),
    (217, 'shipping-rates', 'Remote configuration', 14, false, true, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 100}], "payloads": {"true": "{\"uk\": 2.99, \"eu\": 7.5, \"free_from\": 40}"}}'),
    (218, 'courier-key', 'Remote configuration, encrypted', 2, false, true, true, 'server', 'distinct_id',
     '{"groups": [{"properties": [], "rollout_percentage": 100}], "payloads": {"true": "gAAAAABnb3QtYS1yZWFsLXNlY3JldC1idXQtc2hhcGVkLWxpa2Utb25l"}}'),
    (219, 'early-exit', 'The first matching condition decides, also against', 1, false, false, false, 'all', NULL,
     '{"groups": [{"properties": [{"key": "country", "type": "person", "value": "GB", "operator": "exact"}], "rollout_percentage": 10},
           {"properties": [], "rollout_percentage": 100}], "early_exit": true}'),
    (220, 'ünïcode-Ключ-📚', 'Keys may hold anything', 1, false, false, false, 'all', 'distinct_id',
     '{"groups": [{"properties": [{"key": "straße", "type": "person", "value": "Müllerstraße", "operator": "exact"}], "rollout_percentage": 100}],
       "payloads": {"true": "\"📚 \\u00fc\""}}')
) AS flag (id, key, name, version, continuity, remote, encrypted, runtime, bucketing, filters);

UPDATE posthog_featureflag SET usage_dashboard_id = 1, has_enriched_analytics = true WHERE id = 202;

INSERT INTO posthog_experiment
    (id, name, description, filters, parameters, secondary_metrics, metrics, stats_config, exposure_criteria, type, start_date, created_at, updated_at, archived,
     deleted, created_by_id, feature_flag_id, holdout_id, team_id)
VALUES
    (1, 'Does boosting recent books sell more?', '', '{}', '{"feature_flag_variants": [{"key": "control", "rollout_percentage": 50}, {"key": "test", "rollout_percentage": 50}]}',
     '[]', '[]', '{"method": "bayesian"}', '{"filterTestAccounts": true}', 'product', '2026-09-01 00:00+00', '2026-08-30 10:00+00', '2026-09-01 10:00+00', false,
     false, 2, 202, 1, 2);

INSERT INTO posthog_earlyaccessfeature (id, name, description, stage, documentation_url, created_at, feature_flag_id, team_id)
VALUES
    ('018c1a14-0000-7000-8000-000000000001', 'Reading list', '', 'beta', '', '2026-05-01 10:00+00', 212, 2),
    ('018c1a14-0000-7000-8000-000000000002', 'Audio books', '', 'beta', '', '2024-05-01 10:00+00', 213, 2);

INSERT INTO posthog_evaluationcontext (id, name, created_at, team_id)
VALUES
    ('018c1a15-0000-7000-8000-000000000001', 'checkout', '2026-04-01 10:00+00', 2),
    ('018c1a15-0000-7000-8000-000000000002', 'docs', '2026-04-01 10:00+00', 2);

INSERT INTO posthog_featureflagevaluationcontext (id, created_at, evaluation_context_id, feature_flag_id)
VALUES
    ('018c1a16-0000-7000-8000-000000000001', '2026-04-02 10:00+00', '018c1a15-0000-7000-8000-000000000001', 201),
    ('018c1a16-0000-7000-8000-000000000002', '2026-04-02 10:00+00', '018c1a15-0000-7000-8000-000000000001', 210),
    ('018c1a16-0000-7000-8000-000000000003', '2026-04-02 10:00+00', '018c1a15-0000-7000-8000-000000000002', 210);

-- Flags of the staging environment and of Northwind Bikes: what years leave behind ----------------------------------------------------------------------

INSERT INTO posthog_featureflag
    (id, key, name, filters, rollout_percentage, created_at, updated_at, deleted, active, archived, version, rollback_conditions, performed_rollback,
     ensure_experience_continuity, has_enriched_analytics, is_remote_configuration, has_encrypted_payloads, evaluation_runtime, bucketing_identifier,
     created_by_id, last_modified_by_id, team_id)
SELECT id, key, name, filters::jsonb, rollout, created::timestamptz, updated::timestamptz, deleted, active, archived, version, rollback::jsonb, performed,
    continuity, enriched, remote, encrypted, runtime, bucketing, author, NULL, team
FROM (VALUES
    (301, 3, 'gift-wrapping', 'The same key in another environment', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL::int,
     '2025-02-02 10:00+00', '2025-02-02 10:00+00', false, true, false, 1, NULL, NULL::bool, false, false, false, false, 'all', NULL, 2),
    (401, 4, 'old-homepage', 'Filters from before there were groups; all that came later is NULL',
     '{"properties": [{"key": "email", "value": "@northwindbikes.test", "operator": "icontains"}]}', 30,
     '2021-12-05 10:00+00', NULL, false, true, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 3),
    (402, 4, 'blank', 'Filters empty', '{}', NULL,
     '2021-12-06 10:00+00', NULL, false, true, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (403, 4, 'nulls', 'Everything null that may be', '{"groups": [{"properties": null, "rollout_percentage": null, "variant": null}], "multivariate": null,
       "payloads": null, "aggregation_group_type_index": null, "super_groups": null, "holdout": null}', NULL,
     '2022-04-05 10:00+00', '2025-04-05 10:00+00', false, true, false, 2, '[]', false, NULL, NULL, NULL, NULL, NULL, NULL, 3),
    (404, 4, 'paint-shop:deleted:404', 'Deleted since keys are renamed', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL,
     '2024-04-05 10:00+00', '2026-01-15 10:00+00', true, false, false, 3, NULL, NULL, false, false, false, false, 'all', 'distinct_id', 3),
    (405, 4, 'paint-shop', 'Made anew under the key of the deleted one', '{"groups": [{"properties": [], "rollout_percentage": 20}]}', NULL,
     '2026-01-16 10:00+00', '2026-01-16 10:00+00', false, true, false, 1, NULL, NULL, false, false, false, false, 'all', 'distinct_id', 3),
    (406, 4, 'summer-sale', 'Deleted when keys were left alone', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL,
     '2022-06-01 10:00+00', NULL, true, true, false, NULL, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 3),
    (407, 4, 'winter-sale', 'Archived', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL,
     '2023-12-01 10:00+00', '2026-03-01 10:00+00', false, false, true, 8, NULL, NULL, false, false, false, false, 'all', 'distinct_id', 3),
    (408, 4, 'test-rides', 'Inactive', '{"groups": [{"properties": [], "rollout_percentage": 100}]}', NULL,
     '2024-05-01 10:00+00', '2024-05-01 10:00+00', false, false, false, 1, NULL, NULL, false, false, false, false, 'all', NULL, 3),
    (409, 4, 'dealer-portal', 'For dealers', '{"groups": [{"properties": [], "rollout_percentage": 50}], "aggregation_group_type_index": 0}', NULL,
     '2024-05-02 10:00+00', '2024-05-02 10:00+00', false, true, false, 1, NULL, NULL, false, false, false, false, 'all', NULL, 3),
    (410, 4, 'broken', 'A rollout written as text by a script: must not take the others down', '{"groups": [{"properties": [], "rollout_percentage": "50"}]}', NULL,
     '2022-05-02 10:00+00', NULL, false, true, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) AS flag (id, team, key, name, filters, rollout, created, updated, deleted, active, archived, version, rollback, performed, continuity, enriched, remote,
    encrypted, runtime, bucketing, author);

-- 1,000 members by address: 60 kB that no compression helps, so the value lives out of line and an UPDATE of another column does not resend it.
INSERT INTO posthog_featureflag
    (id, key, name, filters, created_at, updated_at, deleted, active, archived, version, ensure_experience_continuity, has_enriched_analytics,
     is_remote_configuration, has_encrypted_payloads, evaluation_runtime, bucketing_identifier, created_by_id, team_id)
SELECT 411, 'club-members', 'A very long list',
    jsonb_build_object('groups', jsonb_build_array(jsonb_build_object('rollout_percentage', 100, 'properties', jsonb_build_array(jsonb_build_object(
        'key', 'email', 'type', 'person', 'operator', 'exact', 'value', (SELECT jsonb_agg(md5('member ' || n) || '@northwindbikes.test' ORDER BY n)
            FROM generate_series(1, 1000) AS n)))))),
    '2025-07-01 10:00+00', '2026-07-01 10:00+00', false, true, false, 12, false, false, false, false, 'all', 'distinct_id', 3, 4;

-- A little noise --------------------------------------------------------------------------------------------------------------------------------------

INSERT INTO posthog_person (id, uuid, created_at, properties, is_identified, version, team_id)
VALUES
    (1, '018c1a17-0000-7000-8000-000000000001', '2024-02-02 10:00+00', '{"email": "ada@example.com", "country": "GB", "plan": "free"}', true, 3, 1),
    (2, '018c1a17-0000-7000-8000-000000000002', '2024-02-02 10:00+00', '{"email": "grace@acme.test", "country": "US", "plan": "enterprise"}', true, 9, 1),
    (3, '018c1a17-0000-7000-8000-000000000003', '2025-02-02 10:00+00', '{"email": "tom@reader.test"}', true, 1, 2);
INSERT INTO posthog_persondistinctid (id, distinct_id, version, person_id, team_id)
VALUES (1, 'ada', 0, 1, 1), (2, 'grace', 0, 2, 1), (3, 'tom', 0, 3, 2), (4, '0190-anonymous-tom', 1, 3, 2);
INSERT INTO posthog_featureflaghashkeyoverride (id, feature_flag_key, hash_key, person_id, team_id)
VALUES (1, 'sticky-banner', '0190-anonymous-tom', 3, 2);
INSERT INTO posthog_cohortpeople (id, version, cohort_id, person_id) VALUES (1, NULL, 4, 3);
INSERT INTO posthog_group
    (id, group_key, group_type_index, group_properties, created_at, properties_last_updated_at, properties_last_operation, version, team_id)
VALUES (1, 'acme', 0, '{"name": "Acme", "plan": "enterprise", "seats": 250}', '2024-02-02 10:00+00', '{}', '{}', 1, 1);

-- Explicit ids leave the sequences behind.
SELECT setval('posthog_team_id_seq', 1000);
SELECT setval(pg_get_serial_sequence(name, 'id'), 1000)
FROM unnest(ARRAY['posthog_user', 'posthog_dashboard', 'posthog_featureflag', 'posthog_cohort', 'posthog_grouptypemapping', 'posthog_experimentholdout',
    'posthog_experiment', 'posthog_person', 'posthog_persondistinctid', 'posthog_featureflaghashkeyoverride', 'posthog_cohortpeople', 'posthog_group']) AS name;

COMMIT;
