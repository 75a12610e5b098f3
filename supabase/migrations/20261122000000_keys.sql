-- API keys: what a program shows instead of its owner's token. Only the hash of a secret is kept; a key acts as its owner.

create table public.api_keys (
  id text primary key default private.new_id('key') check (id ~ '^key_[0-9a-f]{32}$'),
  owner uuid not null references auth.users (id) on delete cascade,
  name text not null check (char_length(name) between 1 and 200),
  -- The secret's beginning, by which its owner knows it again.
  prefix text not null check (prefix ~ '^sst_[A-Za-z0-9_-]{8}$'),
  -- SHA-256 of the secret. No salt and no stretching: it has 256 random bits, which nobody guesses.
  hash bytea not null unique check (octet_length(hash) = 32),
  scopes text[] not null check (scopes <@ array['run', 'read', 'admin'] and cardinality(scopes) between 1 and 3),
  -- Null: never.
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  constraint api_keys_lives_a_while check (expires_at > created_at)
);

create index api_keys_of_owner on public.api_keys (owner, created_at desc, id desc);

alter table public.api_keys enable row level security;
alter table public.api_keys force row level security;

revoke all on public.api_keys from public, anon, authenticated, service_role;
-- Every column but the hash.
grant select (id, owner, name, prefix, scopes, expires_at, last_used_at, revoked_at, created_at)
  on public.api_keys to authenticated;

create policy "the owner may read an API key" on public.api_keys
  for select to authenticated using (owner = (select auth.uid()));

-- What the caller's token may do: a key's scopes where it was minted for a key, everything where it is a user's own.
create function private.caller_scopes() returns text[]
  language sql stable set search_path = ''
  return case
    when auth.jwt() ? 'key_id' then array(select jsonb_array_elements_text(auth.jwt() -> 'scopes'))
    else array['run', 'read', 'admin']
  end;

-- Refuses a token that may not do all of this. Raises PT403 scope_missing.
create function private.demand_scopes(wanted text[]) returns void
  language plpgsql stable set search_path = ''
as $$
begin
  if not wanted <@ private.caller_scopes() then
    raise exception using errcode = 'PT403', message = 'scope_missing',
      detail = format('the API key lacks one of these scopes: %s', array_to_string(wanted, ', '));
  end if;
end;
$$;

-- A key as its owner sees it.
create function private.key_answer(key public.api_keys) returns jsonb
  language sql stable set search_path = ''
  return to_jsonb(key) - 'owner' - 'hash';

-- A new key; `hash` is SHA-256 of its secret in hex. Sent again with its idempotency key it is refused, since nobody can
-- show the secret again. Raises PT401 not_signed_in, PT403 scope_missing for scopes that the caller's own key has not,
-- PT409 secret_not_shown_again or idempotency_key_reused.
create function public.create_key_v1(
  name text, scopes text[], prefix text, hash text, request_hash text, expires_at timestamptz default null,
  idempotency_key text default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  key public.api_keys;
begin
  perform private.demand_scopes(array['admin'] || create_key_v1.scopes);
  select * into claim from private.claim_subject(
    caller, create_key_v1.idempotency_key, create_key_v1.request_hash, private.new_id('key')
  );
  if not claim.is_new then
    raise exception using errcode = 'PT409', message = 'secret_not_shown_again',
      detail = format('this request made %s before, whose secret was shown once; revoke it and make another', claim.subject);
  end if;
  insert into public.api_keys (id, owner, name, prefix, hash, scopes, expires_at)
    values (
      claim.subject, caller, create_key_v1.name, create_key_v1.prefix, decode(create_key_v1.hash, 'hex'),
      create_key_v1.scopes, create_key_v1.expires_at
    )
    returning * into key;
  return private.key_answer(key);
end;
$$;

-- Ends a key; the first revocation stays. Raises PT401 not_signed_in, PT403 scope_missing, PT404 key_not_found.
create function public.revoke_key_v1(key_id text) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  key public.api_keys;
begin
  perform private.demand_scopes(array['admin']);
  update public.api_keys k set revoked_at = coalesce(k.revoked_at, now())
    where k.id = revoke_key_v1.key_id and k.owner = caller
    returning * into key;
  if not found then
    raise exception using errcode = 'PT404', message = 'key_not_found';
  end if;
  return private.key_answer(key);
end;
$$;

-- The key whose secret has this hash, in hex: {"id", "owner", "scopes", "expires_at"}. Notes its use, once a minute at most:
-- a busy key would be a row that every request waits for. A banned or deleted owner's keys are no keys.
-- Raises PT401 invalid_key for one that is unknown, revoked or expired: which of these is nobody's business.
create function public.use_key_v1(hash text) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  key public.api_keys;
begin
  select k.* into key from public.api_keys k join auth.users u on u.id = k.owner
    where k.hash = decode(use_key_v1.hash, 'hex')
      and k.revoked_at is null and coalesce(k.expires_at > now(), true)
      and coalesce(u.banned_until <= now(), true) and u.deleted_at is null;
  if not found then
    raise exception using errcode = 'PT401', message = 'invalid_key', detail = 'the API key is not valid';
  end if;
  update public.api_keys k set last_used_at = now()
    where k.id = key.id and coalesce(k.last_used_at <= now() - interval '1 minute', true);
  return jsonb_build_object('id', key.id, 'owner', key.owner, 'scopes', to_jsonb(key.scopes), 'expires_at', key.expires_at);
end;
$$;

revoke all on function public.create_key_v1, public.revoke_key_v1, public.use_key_v1
  from public, anon, authenticated, service_role;
grant execute on function public.create_key_v1, public.revoke_key_v1 to authenticated;
grant execute on function public.use_key_v1 to service_role;
