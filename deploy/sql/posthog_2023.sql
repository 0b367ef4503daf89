-- PostHog's tables as a self-hosted installation of December 2023 has them: those that everflag watches, and some that only make noise.
--
-- Faithful to what a replicator meets:
--   * Django keeps defaults in Python: a column has a database default only where PostHog's has one ("db default"), so writers name every NOT NULL column.
--   * Foreign keys are DEFERRABLE INITIALLY DEFERRED, and those of the watched tables have an index each; unique varchar columns have a "_like" index.
--   * Every table has its primary key as replica identity: a DELETE carries the key alone, an UPDATE no old values.
-- posthog_2026.sql has all of these columns and says when the others came. Missing here: projects, secret tokens, the settings of flags per team,
-- evaluation contexts, holdouts, and most of what configures the browser SDK.
-- Loads into an empty database of Postgres 14 or later.

-- Organizations and people ------------------------------------------------------------------------------------------------------------------------------

CREATE TABLE posthog_organization (
    id uuid PRIMARY KEY,
    name varchar(64) NOT NULL,
    slug varchar(48) NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    plugins_access_level smallint NOT NULL,
    for_internal_metrics boolean NOT NULL,
    enforce_2fa boolean,
    is_member_join_email_enabled boolean NOT NULL,
    usage jsonb,
    customer_id varchar(200),
    never_drop_data boolean
);
CREATE INDEX posthog_organization_slug_like ON posthog_organization (slug varchar_pattern_ops);

CREATE TABLE posthog_user (
    id serial PRIMARY KEY,
    password varchar(128) NOT NULL,
    last_login timestamptz,                                        -- written at every login
    first_name varchar(150) NOT NULL,
    last_name varchar(150) NOT NULL,
    is_staff boolean NOT NULL,
    is_active boolean NOT NULL,
    date_joined timestamptz NOT NULL,
    uuid uuid NOT NULL UNIQUE,
    email varchar(254) NOT NULL UNIQUE,
    current_organization_id uuid REFERENCES posthog_organization (id) DEFERRABLE INITIALLY DEFERRED,
    current_team_id integer,                                       -- the constraint follows posthog_team
    distinct_id varchar(200) UNIQUE,
    theme_mode varchar(20),
    partial_notification_settings jsonb,
    events_column_config jsonb NOT NULL
);
CREATE INDEX posthog_user_current_organization_id_idx ON posthog_user (current_organization_id);
CREATE INDEX posthog_user_current_team_id_idx ON posthog_user (current_team_id);
CREATE INDEX posthog_user_distinct_id_like ON posthog_user (distinct_id varchar_pattern_ops);
CREATE INDEX posthog_user_email_like ON posthog_user (email varchar_pattern_ops);

CREATE TABLE posthog_organizationmembership (
    id uuid PRIMARY KEY,
    level smallint NOT NULL,
    joined_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    organization_id uuid NOT NULL REFERENCES posthog_organization (id) DEFERRABLE INITIALLY DEFERRED,
    user_id integer NOT NULL REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT unique_organization_membership UNIQUE (organization_id, user_id)
);
CREATE INDEX posthog_organizationmembership_organization_id_idx ON posthog_organizationmembership (organization_id);
CREATE INDEX posthog_organizationmembership_user_id_idx ON posthog_organizationmembership (user_id);

-- Teams -------------------------------------------------------------------------------------------------------------------------------------------------

CREATE TABLE posthog_team (
    id serial PRIMARY KEY,
    uuid uuid NOT NULL UNIQUE,
    organization_id uuid NOT NULL REFERENCES posthog_organization (id) DEFERRABLE INITIALLY DEFERRED,
    api_token varchar(200) NOT NULL UNIQUE,
    app_urls varchar(200)[] NOT NULL,
    name varchar(200) NOT NULL,
    slack_incoming_webhook varchar(500),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    anonymize_ips boolean NOT NULL,
    completed_snippet_onboarding boolean NOT NULL,
    has_completed_onboarding_for jsonb,
    ingested_event boolean NOT NULL,                                                                     -- written by raw SQL at the first event
    autocapture_opt_out boolean,
    autocapture_exceptions_opt_in boolean,
    autocapture_exceptions_errors_to_ignore jsonb,
    session_recording_opt_in boolean NOT NULL,
    session_recording_sample_rate numeric(3, 2),
    session_recording_minimum_duration_milliseconds integer,
    session_recording_linked_flag jsonb,
    session_recording_network_payload_capture_config jsonb,
    session_recording_version varchar(24),
    surveys_opt_in boolean,
    capture_console_log_opt_in boolean,
    capture_performance_opt_in boolean,
    inject_web_apps boolean,
    recording_domains varchar(200)[],
    extra_settings jsonb,
    timezone varchar(240) NOT NULL,
    week_start_day smallint,
    data_attributes jsonb NOT NULL,
    person_display_name_properties varchar(400)[],
    live_events_columns text[],
    test_account_filters jsonb NOT NULL,
    test_account_filters_default_checked boolean,
    path_cleaning_filters jsonb,
    correlation_config jsonb,
    access_control boolean NOT NULL,
    is_demo boolean NOT NULL,
    signup_token varchar(200),
    primary_dashboard_id integer,
    plugins_opt_in boolean NOT NULL,
    opt_out_capture boolean NOT NULL,
    event_names jsonb NOT NULL,
    event_names_with_usage jsonb NOT NULL,
    event_properties jsonb NOT NULL,
    event_properties_with_usage jsonb NOT NULL,
    event_properties_numerical jsonb NOT NULL,
    external_data_workspace_id varchar(400)
);
CREATE INDEX posthog_team_api_token_like ON posthog_team (api_token varchar_pattern_ops);
CREATE INDEX posthog_team_organization_id_idx ON posthog_team (organization_id);
ALTER TABLE posthog_user
    ADD CONSTRAINT posthog_user_current_team_id_fk FOREIGN KEY (current_team_id) REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE posthog_dashboard (
    id serial PRIMARY KEY,
    name varchar(400),
    description text NOT NULL,
    pinned boolean NOT NULL,
    deleted boolean NOT NULL,
    created_at timestamptz NOT NULL,
    last_accessed_at timestamptz,                                  -- written at every view
    filters jsonb NOT NULL,
    creation_mode varchar(16) NOT NULL,
    created_by_id integer REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_dashboard_created_by_id_idx ON posthog_dashboard (created_by_id);
CREATE INDEX posthog_dashboard_team_id_idx ON posthog_dashboard (team_id);

-- Feature flags -----------------------------------------------------------------------------------------------------------------------------------------
-- Rows are practically never DELETEd: deleted = true, and the key stays taken.

CREATE TABLE posthog_featureflag (
    id serial PRIMARY KEY,
    key varchar(400) NOT NULL,
    name text NOT NULL,                                            -- the description
    filters jsonb NOT NULL,                                        -- often stored out of line (TOAST)
    rollout_percentage integer,                                    -- the rollout of flags whose filters have no groups
    created_at timestamptz NOT NULL,
    deleted boolean NOT NULL,
    active boolean NOT NULL,
    rollback_conditions jsonb,
    performed_rollback boolean,
    ensure_experience_continuity boolean,
    has_enriched_analytics boolean,
    created_by_id integer REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    usage_dashboard_id integer REFERENCES posthog_dashboard (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "unique key for team" UNIQUE (team_id, key)          -- deleted rows included
);
CREATE INDEX posthog_featureflag_created_by_id_idx ON posthog_featureflag (created_by_id);
CREATE INDEX posthog_featureflag_team_id_idx ON posthog_featureflag (team_id);
CREATE INDEX posthog_featureflag_usage_dashboard_id_idx ON posthog_featureflag (usage_dashboard_id);

CREATE TABLE posthog_cohort (
    id serial PRIMARY KEY,
    name varchar(400),
    description varchar(1000) NOT NULL,
    deleted boolean NOT NULL,
    filters jsonb,
    query jsonb,
    groups jsonb NOT NULL,                                         -- the form before filters
    version integer,                                               -- these and the next ones are written by every recalculation
    pending_version integer,
    count integer,
    is_calculating boolean NOT NULL,
    last_calculation timestamptz,
    errors_calculating integer NOT NULL,
    is_static boolean NOT NULL,
    created_at timestamptz,
    created_by_id integer REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_cohort_created_by_id_idx ON posthog_cohort (created_by_id);
CREATE INDEX posthog_cohort_team_id_idx ON posthog_cohort (team_id);

CREATE TABLE posthog_grouptypemapping (
    id serial PRIMARY KEY,
    group_type varchar(400) NOT NULL,
    group_type_index integer NOT NULL,
    name_singular varchar(400),
    name_plural varchar(400),
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "unique group types for team" UNIQUE (team_id, group_type),
    CONSTRAINT "unique event column indexes for team" UNIQUE (team_id, group_type_index),
    CONSTRAINT "group_type_index is less than or equal 5" CHECK (group_type_index <= 5)
);
CREATE INDEX posthog_grouptypemapping_team_id_idx ON posthog_grouptypemapping (team_id);

CREATE TABLE posthog_experiment (
    id serial PRIMARY KEY,
    name varchar(400) NOT NULL,
    description varchar(3000),
    filters jsonb NOT NULL,
    parameters jsonb,
    secondary_metrics jsonb,
    start_date timestamptz,
    end_date timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    archived boolean NOT NULL,
    created_by_id integer REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    exposure_cohort_id integer REFERENCES posthog_cohort (id) DEFERRABLE INITIALLY DEFERRED,
    feature_flag_id integer NOT NULL REFERENCES posthog_featureflag (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_experiment_created_by_id_idx ON posthog_experiment (created_by_id);
CREATE INDEX posthog_experiment_exposure_cohort_id_idx ON posthog_experiment (exposure_cohort_id);
CREATE INDEX posthog_experiment_feature_flag_id_idx ON posthog_experiment (feature_flag_id);
CREATE INDEX posthog_experiment_team_id_idx ON posthog_experiment (team_id);

CREATE TABLE posthog_earlyaccessfeature (
    id uuid PRIMARY KEY,
    name varchar(200) NOT NULL,
    description text NOT NULL,
    stage varchar(40) NOT NULL,
    documentation_url varchar(800) NOT NULL,
    created_at timestamptz NOT NULL,
    feature_flag_id integer REFERENCES posthog_featureflag (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_earlyaccessfeature_feature_flag_id_idx ON posthog_earlyaccessfeature (feature_flag_id);
CREATE INDEX posthog_earlyaccessfeature_team_id_idx ON posthog_earlyaccessfeature (team_id);

-- Noise: busy tables that nobody here reads -------------------------------------------------------------------------------------------------------------

CREATE TABLE posthog_personalapikey (
    id varchar(50) PRIMARY KEY,
    label varchar(40) NOT NULL,
    value varchar(50) UNIQUE,                                      -- the time before hashes
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,                                      -- written at every use
    team_id integer REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    user_id integer NOT NULL REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_personalapikey_team_id_idx ON posthog_personalapikey (team_id);
CREATE INDEX posthog_personalapikey_user_id_idx ON posthog_personalapikey (user_id);

CREATE TABLE posthog_person (
    id serial PRIMARY KEY,
    uuid uuid NOT NULL,
    created_at timestamptz NOT NULL,
    properties jsonb NOT NULL,
    properties_last_updated_at jsonb,
    properties_last_operation jsonb,
    is_identified boolean NOT NULL,
    version bigint,
    is_user_id integer REFERENCES posthog_user (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_person_uuid_idx ON posthog_person (uuid);
CREATE INDEX posthog_person_team_id_idx ON posthog_person (team_id);
CREATE INDEX posthog_person_email ON posthog_person ((properties ->> 'email'));

CREATE TABLE posthog_persondistinctid (
    id serial PRIMARY KEY,
    distinct_id varchar(400) NOT NULL,
    version bigint,
    person_id integer NOT NULL REFERENCES posthog_person (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "unique distinct_id for team" UNIQUE (team_id, distinct_id)
);
CREATE INDEX posthog_persondistinctid_person_id_idx ON posthog_persondistinctid (person_id);
CREATE INDEX posthog_persondistinctid_team_id_idx ON posthog_persondistinctid (team_id);

CREATE TABLE posthog_featureflaghashkeyoverride (
    id serial PRIMARY KEY,
    feature_flag_key varchar(400) NOT NULL,
    hash_key varchar(400) NOT NULL,
    person_id integer NOT NULL REFERENCES posthog_person (id) DEFERRABLE INITIALLY DEFERRED,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "Unique hash_key for a user/team/feature_flag combo" UNIQUE (team_id, person_id, feature_flag_key)
);
CREATE INDEX posthog_featureflaghashkeyoverride_person_id_idx ON posthog_featureflaghashkeyoverride (person_id);

CREATE TABLE posthog_cohortpeople (
    id bigserial PRIMARY KEY,
    version integer,
    cohort_id integer NOT NULL REFERENCES posthog_cohort (id) DEFERRABLE INITIALLY DEFERRED,
    person_id integer NOT NULL REFERENCES posthog_person (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_cohortpeople_cohort_person_idx ON posthog_cohortpeople (cohort_id, person_id);

CREATE TABLE posthog_group (
    id serial PRIMARY KEY,
    group_key varchar(400) NOT NULL,
    group_type_index integer NOT NULL CHECK (group_type_index <= 5),
    group_properties jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    properties_last_updated_at jsonb NOT NULL,
    properties_last_operation jsonb NOT NULL,
    version bigint NOT NULL,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "unique team_id/group_key/group_type_index combo" UNIQUE (team_id, group_key, group_type_index)
);

CREATE TABLE posthog_event (                                       -- a relic: events have long been in ClickHouse, the table stays
    id bigserial PRIMARY KEY,
    event varchar(200),
    distinct_id varchar(200) NOT NULL,
    properties jsonb NOT NULL,
    timestamp timestamptz NOT NULL,
    created_at timestamptz,
    team_id integer NOT NULL REFERENCES posthog_team (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX posthog_event_team_id_timestamp_idx ON posthog_event (team_id, timestamp);
