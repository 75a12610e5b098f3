-- Environments: what a sandbox may reach and has installed. Sessions keep a copy, so that one may be changed or deleted.

create table public.environments (
  id text primary key default private.new_id('env') check (octet_length(id) between 1 and 64),
  owner uuid references auth.users (id) on delete cascade,
  config jsonb not null check (private.is_config(config)),
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- As for agents.
  constraint environments_ready_made check ((owner is null) = (id = 'default'))
);

create index environments_of_owner on public.environments (owner, created_at desc, id desc);

alter table public.environments enable row level security;
alter table public.environments force row level security;

revoke all on public.environments from public, anon, authenticated, service_role;
grant select on public.environments to authenticated, service_role;

create policy "everyone may read their own and ready-made environments" on public.environments
  for select to authenticated using (owner is null or owner = (select auth.uid()));

insert into public.environments (id, owner, config) values (
  'default', null,
  '{
    "name": "default",
    "description": "A sandbox that reaches the model, the MCP servers of its agent, and nothing else.",
    "config": {
      "type": "cloud",
      "networking": {
        "type": "limited", "allowed_hosts": [], "allow_mcp_servers": true, "allow_package_managers": false
      },
      "packages": {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []}
    },
    "metadata": {},
    "scope": null
  }'
);

-- The caller's own environment, locked. Raises PT404 environment_not_found, PT403 ready_made.
create function private.lock_environment(of_environment text, of_owner uuid) returns public.environments
  language plpgsql set search_path = ''
as $$
declare
  environment public.environments;
begin
  select * into environment from public.environments e
    where e.id = of_environment and (e.owner = of_owner or e.owner is null)
    for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'environment_not_found';
  elsif environment.owner is null then
    raise exception using errcode = 'PT403', message = 'ready_made', detail = 'a ready-made environment is not changed';
  end if;
  return environment;
end;
$$;

-- The environment as clients see it, kept for the key.
create function private.environment_answer(environment public.environments, of_key text) returns jsonb
  language plpgsql set search_path = ''
as $$
declare
  answer jsonb := to_jsonb(environment) - 'owner';
begin
  perform private.keep_answer(environment.owner, of_key, answer);
  return answer;
end;
$$;

-- Raises PT401 not_signed_in, PT409 idempotency_key_reused.
create function public.create_environment_v1(config jsonb, request_hash text, idempotency_key text default null) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  environment public.environments;
begin
  select * into claim from private.claim_subject(
    caller, create_environment_v1.idempotency_key, create_environment_v1.request_hash, private.new_id('env')
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  insert into public.environments (id, owner, config)
    values (claim.subject, caller, create_environment_v1.config)
    returning * into environment;
  return private.environment_answer(environment, create_environment_v1.idempotency_key);
end;
$$;

-- Replaces the configuration; sessions that were made with the old one keep it.
-- Raises PT401 not_signed_in, PT403 ready_made, PT404 environment_not_found, PT409 environment_archived or
-- idempotency_key_reused.
create function public.update_environment_v1(
  environment_id text, config jsonb, request_hash text, idempotency_key text default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  environment public.environments;
begin
  select * into claim from private.claim_subject(
    caller, update_environment_v1.idempotency_key, update_environment_v1.request_hash, update_environment_v1.environment_id
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  environment := private.lock_environment(update_environment_v1.environment_id, caller);
  if environment.archived_at is not null then
    raise exception using errcode = 'PT409', message = 'environment_archived';
  end if;
  if environment.config is distinct from update_environment_v1.config then
    update public.environments e
      set config = update_environment_v1.config, updated_at = now()
      where e.id = environment.id
      returning * into environment;
  end if;
  return private.environment_answer(environment, update_environment_v1.idempotency_key);
end;
$$;

-- An archived environment starts no session; its sessions go on. The first archiving stays.
-- Raises PT401 not_signed_in, PT403 ready_made, PT404 environment_not_found, PT409 idempotency_key_reused.
create function public.archive_environment_v1(environment_id text, request_hash text, idempotency_key text default null)
  returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  environment public.environments;
begin
  select * into claim from private.claim_subject(
    caller, archive_environment_v1.idempotency_key, archive_environment_v1.request_hash, archive_environment_v1.environment_id
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  environment := private.lock_environment(archive_environment_v1.environment_id, caller);
  if environment.archived_at is null then
    update public.environments e set archived_at = now(), updated_at = now()
      where e.id = environment.id
      returning * into environment;
  end if;
  return private.environment_answer(environment, archive_environment_v1.idempotency_key);
end;
$$;

-- Raises PT401 not_signed_in, PT403 ready_made, PT404 environment_not_found.
create function public.delete_environment_v1(environment_id text) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  environment public.environments := private.lock_environment(delete_environment_v1.environment_id, private.caller());
begin
  delete from public.environments e where e.id = environment.id;
  return jsonb_build_object('id', environment.id);
end;
$$;

revoke all on function public.create_environment_v1, public.update_environment_v1, public.archive_environment_v1,
  public.delete_environment_v1 from public, anon, authenticated, service_role;
grant execute on function public.create_environment_v1, public.update_environment_v1, public.archive_environment_v1,
  public.delete_environment_v1 to authenticated;
