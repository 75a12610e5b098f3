-- Conversations: sessions with an agent. What a session keeps beside its log, so that its next turn knows the last one,
-- and what follows from the log by itself: status and usage.

alter table public.agent_sessions
  -- Null for a session that runs plans.
  add column agent_id text references public.agents (id),
  -- The agent and the environment as they were when the session was made; agents and environments may change since.
  -- Their sizes as stored only: a CHECK runs with every batch of events, and what reads them whole would slow the log.
  add column agent jsonb check (pg_column_size(agent) <= 262144),
  -- No foreign key: an environment may be deleted, the session has its copy.
  add column environment_id text check (octet_length(environment_id) between 1 and 64),
  add column environment jsonb check (pg_column_size(environment) <= 262144),
  add column resources jsonb not null default '[]' check (pg_column_size(resources) <= 65536),
  add column archived_at timestamptz,
  -- Millionths of a US dollar. Null: no limit of its own.
  add column budget_microusd bigint check (budget_microusd >= 0),
  add column cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  -- Tokens, summed over the log's span.model_request_end.
  add column usage jsonb not null default '{}' check (pg_column_size(usage) <= 1024),
  -- The seq of the last user.message, of the last user.* event, and of the last one that a runner was given.
  add column message_seq bigint not null default 0 check (message_seq >= 0),
  add column input_seq bigint not null default 0 check (input_seq >= 0),
  add column taken_seq bigint not null default 0 check (taken_seq >= 0),
  add constraint agent_sessions_conversation check (num_nonnulls(agent_id, agent, environment_id, environment) in (0, 4)),
  add constraint agent_sessions_archived check (archived_at is null or status = 'terminated');

create index agent_sessions_of_agent on public.agent_sessions (agent_id);

-- What the control plane needs to start a run and nobody may read: tokens for repositories.
create table public.session_secrets (
  session_id uuid primary key references public.agent_sessions (id) on delete cascade,
  secrets jsonb not null check (jsonb_typeof(secrets) = 'object' and octet_length(secrets::text) <= 65536)
);

-- Images, PDFs and texts of user messages; the events only name them.
create table public.session_attachments (
  session_id uuid not null references public.agent_sessions (id) on delete cascade,
  id uuid not null,
  media_type text not null check (octet_length(media_type) between 1 and 128),
  title text check (char_length(title) <= 500),
  -- As large as the endpoint's largest body.
  data bytea not null check (octet_length(data) <= 16777216),
  created_at timestamptz not null default now(),
  primary key (session_id, id)
);
-- Mostly compressed already.
alter table public.session_attachments alter column data set storage external;

-- Claude's own transcript, line by line, as the SDK's session store appends it. `subpath` is '' for the conversation
-- itself and names a sub-agent's otherwise.
create table public.session_transcripts (
  session_id uuid not null references public.agent_sessions (id) on delete cascade,
  subpath text not null check (octet_length(subpath) <= 512),
  n bigint not null check (n >= 1),
  -- The entry's own uuid, where it has one.
  entry_id text check (octet_length(entry_id) between 1 and 512),
  bytes integer not null check (bytes between 2 and 8388608),
  entry jsonb not null check (jsonb_typeof(entry) = 'object'),
  created_at timestamptz not null default now(),
  primary key (session_id, subpath, n)
);

-- An entry that is sent again is not kept twice.
create unique index session_transcripts_once on public.session_transcripts (session_id, subpath, entry_id)
  where entry_id is not null;

-- The working directory as it was last saved; the newest only.
create table public.session_files (
  session_id uuid primary key references public.agent_sessions (id) on delete cascade,
  -- 12 MiB of base64.
  archive bytea not null check (octet_length(archive) <= 9437184),
  files integer not null check (files >= 0),
  bytes bigint not null check (bytes >= 0),
  saved_at timestamptz not null default now()
);
alter table public.session_files alter column archive set storage external;

alter table public.session_secrets enable row level security;
alter table public.session_secrets force row level security;
alter table public.session_attachments enable row level security;
alter table public.session_attachments force row level security;
alter table public.session_transcripts enable row level security;
alter table public.session_transcripts force row level security;
alter table public.session_files enable row level security;
alter table public.session_files force row level security;

-- No policy and no grant: functions only.
revoke all on public.session_secrets, public.session_attachments, public.session_transcripts, public.session_files
  from public, anon, authenticated, service_role;

alter table public.agent_runs drop constraint agent_runs_kind_check;
alter table public.agent_runs add constraint agent_runs_kind_check check (kind in ('commands', 'claude'));

alter table public.agent_events
  -- What a person said stands in the log because the API wrote it, never because a runner says so.
  add constraint agent_events_not_said_by_a_runner check (n is null or not starts_with(type, 'user.'));

-- To find the tool use that a person answers. The ids are the runner's: cut, since an index takes no long ones.
create index agent_events_tool_uses on public.agent_events (session_id, left(data ->> 'id', 128))
  where type in ('agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use');

-- Two answers to one question cannot stand in the log.
create unique index agent_events_answered_once
  on public.agent_events (session_id, left(coalesce(data ->> 'tool_use_id', data ->> 'custom_tool_use_id'), 128))
  where type in ('user.tool_confirmation', 'user.custom_tool_result');

-- A conversation's runs are turns of Claude's and no others; nobody admits a turn without an agent.
create function private.refuse_foreign_kind() returns trigger
  language plpgsql set search_path = ''
as $$
declare
  is_conversation boolean := (select s.agent_id is not null from public.agent_sessions s where s.id = new.session_id);
begin
  if new.kind = 'claude' and not is_conversation then
    raise exception using errcode = 'PT409', message = 'not_a_conversation', detail = 'the session has no agent';
  elsif new.kind <> 'claude' and is_conversation then
    raise exception using errcode = 'PT409', message = 'is_a_conversation', detail = 'the session takes messages, not plans';
  end if;
  return new;
end;
$$;

create trigger refuse_foreign_kind
  before insert on public.agent_runs
  for each row execute function private.refuse_foreign_kind();

-- A number of a runner's as a count; what is none counts nothing, so that no event can stop the log.
create function private.as_count(given jsonb) returns bigint
  language sql immutable parallel safe
  return case
    when jsonb_typeof(given) <> 'number' then 0
    when given::numeric between 0 and 1e12 then trunc(given::numeric)::bigint
    else 0
  end;

create function private.add_usage(held jsonb, input bigint, output bigint, written bigint, read bigint) returns jsonb
  language sql immutable parallel safe
  return jsonb_build_object(
    'input_tokens', coalesce((held ->> 'input_tokens')::bigint, 0) + input,
    'output_tokens', coalesce((held ->> 'output_tokens')::bigint, 0) + output,
    'cache_creation_input_tokens', coalesce((held ->> 'cache_creation_input_tokens')::bigint, 0) + written,
    'cache_read_input_tokens', coalesce((held ->> 'cache_read_input_tokens')::bigint, 0) + read
  );

-- The session's status and usage after a batch of its runner's. One statement, which for most batches finds nothing to do.
create function private.follow_runner() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  update public.agent_sessions s
    set
      status = case when s.status = 'terminated' then s.status else coalesce(told.status, s.status) end,
      usage = case
        when told.requests = 0 then s.usage
        else private.add_usage(s.usage, told.input, told.output, told.written, told.read)
      end
    from (
      select
        a.session_id,
        (array_agg(split_part(a.type, '_', 2) order by a.seq desc) filter (where a.type like 'session.%'))[1] as status,
        count(*) filter (where a.type like 'span.%') as requests,
        sum(private.as_count(a.data -> 'model_usage' -> 'input_tokens'))::bigint as input,
        sum(private.as_count(a.data -> 'model_usage' -> 'output_tokens'))::bigint as output,
        sum(private.as_count(a.data -> 'model_usage' -> 'cache_creation_input_tokens'))::bigint as written,
        sum(private.as_count(a.data -> 'model_usage' -> 'cache_read_input_tokens'))::bigint as read
      from added a
      where a.n is not null and a.type in ('session.status_running', 'session.status_idle', 'span.model_request_end')
      group by a.session_id
    ) told
    where s.id = told.session_id;
  return null;
end;
$$;

create trigger follow_runner
  after insert on public.agent_events
  referencing new table as added
  for each statement execute function private.follow_runner();

-- Whether all that the run was told reached Claude, or was taken back by whoever said it.
create function private.ended_well(run public.agent_runs) returns boolean
  language sql immutable set search_path = ''
  return run.status = 'cancelled'
    or run.status = 'succeeded' and coalesce(run.result -> 'stop_reason' ->> 'type', '') <> 'budget_reached';

-- The session whole, with what a launch must know of it.
create function private.session_facts(of_session uuid) returns jsonb
  language sql stable set search_path = ''
  return (
    select to_jsonb(s) || jsonb_build_object(
      'sandbox_id', (
        select x.sandbox_id from public.sandbox_executions x
        where x.session_id = s.id and x.ended_at is null
        order by x.started_at desc limit 1
      ),
      -- Before the run that is live now, if one is; one that was never used does not count.
      'had_sandbox', exists (
        select from public.sandbox_executions x
        where x.session_id = s.id and x.end_reason is distinct from 'launch_failed'
          and not exists (select from public.agent_runs r where r.id = x.run_id and private.is_live(r.status))
      ),
      -- What a run was told that was cut off may not have reached Claude: where that began, until a run ends well.
      'lost_after_seq', (
        select min((r.input ->> 'after_seq')::bigint) from public.agent_runs r
        where r.session_id = s.id and not private.ended_well(r) and not private.is_live(r.status) and not exists (
          select from public.agent_runs l
          where l.session_id = s.id and private.ended_well(l) and l.created_at > r.created_at
        )
      ),
      'has_transcript', exists (select from public.session_transcripts t where t.session_id = s.id and t.subpath = ''),
      'has_files', exists (select from public.session_files f where f.session_id = s.id)
    )
    from public.agent_sessions s where s.id = of_session
  );

-- The caller's own session, locked, whatever its status. Raises PT404 session_not_found.
create function private.lock_session(of_session uuid, of_owner uuid) returns public.agent_sessions
  language plpgsql set search_path = ''
as $$
declare
  session public.agent_sessions;
begin
  select * into session from public.agent_sessions s where s.id = of_session and s.owner = of_owner for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'session_not_found';
  end if;
  return session;
end;
$$;

-- The session's live run; all null when there is none. The caller holds the session's lock.
create function private.live_run(of_session uuid) returns public.agent_runs
  language sql stable set search_path = ''
  begin atomic
    select r.* from public.agent_runs r where r.session_id = of_session and private.is_live(r.status);
  end;
