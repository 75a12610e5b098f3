-- Agents: named configurations, each change a new version. The ready-made one, `default`, is everyone's and nobody's.

-- Whether it may be kept as an agent's or an environment's configuration. What it says is the endpoint's to check.
create function private.is_config(config jsonb) returns boolean
  language sql immutable parallel safe
  return coalesce(
    jsonb_typeof(config) = 'object'
      and octet_length(config::text) <= 262144
      and char_length(config ->> 'name') between 1 and 256
      and private.is_readable(config),
    false
  );

create function private.new_id(prefix text) returns text
  language sql volatile
  return prefix || '_' || replace(gen_random_uuid()::text, '-', '');

create table public.agents (
  id text primary key default private.new_id('agent') check (octet_length(id) between 1 and 64),
  owner uuid references auth.users (id) on delete cascade,
  -- The latest version and its configuration; agent_versions has them all.
  version integer not null default 1 check (version >= 1),
  config jsonb not null check (private.is_config(config)),
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Only the ready-made one has no owner: a row that everyone may read is never made by chance.
  constraint agents_ready_made check ((owner is null) = (id = 'default'))
);

create index agents_of_owner on public.agents (owner, created_at desc, id desc);

-- Never changed, never deleted but with the agent: a session may pin any of them.
create table public.agent_versions (
  agent_id text not null references public.agents (id) on delete cascade,
  version integer not null check (version >= 1),
  owner uuid references auth.users (id) on delete cascade,
  config jsonb not null check (private.is_config(config)),
  created_at timestamptz not null default now(),
  primary key (agent_id, version)
);

create index agent_versions_of_owner on public.agent_versions (owner);

alter table public.agents enable row level security;
alter table public.agents force row level security;
alter table public.agent_versions enable row level security;
alter table public.agent_versions force row level security;

revoke all on public.agents, public.agent_versions from public, anon, authenticated, service_role;
grant select on public.agents, public.agent_versions to authenticated, service_role;

create policy "everyone may read their own and ready-made agents" on public.agents
  for select to authenticated using (owner is null or owner = (select auth.uid()));

create policy "whoever may read an agent may read its versions" on public.agent_versions
  for select to authenticated using (owner is null or owner = (select auth.uid()));

insert into public.agents (id, owner, config) values (
  'default', null,
  '{
    "name": "Claude",
    "description": "A general agent with every built-in tool. Nothing is asked before a tool runs.",
    "model": {"id": "claude-sonnet-5", "effort": null, "speed": "standard", "inference_geo": null},
    "system": null,
    "tools": [
      {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}},
        "configs": []
      }
    ],
    "mcp_servers": [],
    "skills": [],
    "metadata": {},
    "multiagent": null
  }'
);
insert into public.agent_versions (agent_id, version, owner, config, created_at)
  select a.id, a.version, a.owner, a.config, a.created_at from public.agents a;

-- The caller's own agent, locked. Raises PT404 agent_not_found, PT403 ready_made.
create function private.lock_agent(of_agent text, of_owner uuid) returns public.agents
  language plpgsql set search_path = ''
as $$
declare
  agent public.agents;
begin
  select * into agent from public.agents a
    where a.id = of_agent and (a.owner = of_owner or a.owner is null)
    for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'agent_not_found';
  elsif agent.owner is null then
    raise exception using errcode = 'PT403', message = 'ready_made', detail = 'a ready-made agent is not changed';
  end if;
  return agent;
end;
$$;

-- Writes the agent's current version down. Answers with the agent as clients see it, and keeps that for the key.
create function private.agent_answer(agent public.agents, of_key text) returns jsonb
  language plpgsql set search_path = ''
as $$
declare
  answer jsonb := to_jsonb(agent) - 'owner';
begin
  insert into public.agent_versions (agent_id, version, owner, config)
    values (agent.id, agent.version, agent.owner, agent.config)
    on conflict (agent_id, version) do nothing;
  perform private.keep_answer(agent.owner, of_key, answer);
  return answer;
end;
$$;

-- A new agent, at version 1. Raises PT401 not_signed_in, PT409 idempotency_key_reused.
create function public.create_agent_v1(config jsonb, request_hash text, idempotency_key text default null) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  agent public.agents;
begin
  select * into claim from private.claim_subject(
    caller, create_agent_v1.idempotency_key, create_agent_v1.request_hash, private.new_id('agent')
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  insert into public.agents (id, owner, config)
    values (claim.subject, caller, create_agent_v1.config)
    returning * into agent;
  return private.agent_answer(agent, create_agent_v1.idempotency_key);
end;
$$;

-- The agent with this configuration as its next version; the same configuration makes none. With expected_version,
-- only while that is the latest. Raises PT401 not_signed_in, PT403 ready_made, PT404 agent_not_found,
-- PT409 version_conflict, agent_archived or idempotency_key_reused.
create function public.update_agent_v1(
  agent_id text, config jsonb, request_hash text, expected_version integer default null, idempotency_key text default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  agent public.agents;
begin
  select * into claim from private.claim_subject(
    caller, update_agent_v1.idempotency_key, update_agent_v1.request_hash, update_agent_v1.agent_id
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  agent := private.lock_agent(update_agent_v1.agent_id, caller);
  if agent.archived_at is not null then
    raise exception using errcode = 'PT409', message = 'agent_archived';
  elsif agent.version <> update_agent_v1.expected_version then
    raise exception using errcode = 'PT409', message = 'version_conflict', detail = format('the agent is at version %s', agent.version);
  end if;
  if agent.config is distinct from update_agent_v1.config then
    update public.agents a
      set config = update_agent_v1.config, version = a.version + 1, updated_at = now()
      where a.id = agent.id
      returning * into agent;
  end if;
  return private.agent_answer(agent, update_agent_v1.idempotency_key);
end;
$$;

-- An archived agent starts no session and takes no version; its sessions go on. The first archiving stays.
-- Raises PT401 not_signed_in, PT403 ready_made, PT404 agent_not_found, PT409 idempotency_key_reused.
create function public.archive_agent_v1(agent_id text, request_hash text, idempotency_key text default null) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  agent public.agents;
begin
  select * into claim from private.claim_subject(
    caller, archive_agent_v1.idempotency_key, archive_agent_v1.request_hash, archive_agent_v1.agent_id
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  agent := private.lock_agent(archive_agent_v1.agent_id, caller);
  if agent.archived_at is null then
    update public.agents a set archived_at = now(), updated_at = now() where a.id = agent.id returning * into agent;
  end if;
  return private.agent_answer(agent, archive_agent_v1.idempotency_key);
end;
$$;

revoke all on function public.create_agent_v1, public.update_agent_v1, public.archive_agent_v1
  from public, anon, authenticated, service_role;
grant execute on function public.create_agent_v1, public.update_agent_v1, public.archive_agent_v1 to authenticated;
