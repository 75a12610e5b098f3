-- Watch tokens: what a browser is given so that it can follow one session. Their role reads that session and listens to it.

do $$
begin
  -- Roles belong to the whole cluster and outlive `supabase db reset`.
  if not exists (select from pg_roles where rolname = 'watcher') then
    create role watcher nologin noinherit;
  end if;
end;
$$;
grant watcher to authenticator;
grant usage on schema public, realtime to watcher;
grant select on public.agent_sessions, public.agent_runs, public.agent_events to watcher;
grant select on realtime.messages to watcher;

-- The session that the caller's watch token is for; null for every other token, for a session that is not its subject's,
-- and once the API key that asked for the token is revoked or has expired. A function, since a watcher reads no keys.
create function private.watched_session() returns uuid
  language plpgsql stable security definer set search_path = ''
as $$
declare
  claims jsonb := auth.jwt();
begin
  if claims ->> 'role' is distinct from 'watcher' or claims ->> 'aud' is distinct from 'watcher' then
    return null;
  elsif claims ? 'key_id' and not exists (
    select from public.api_keys k
    where k.id = claims ->> 'key_id' and k.revoked_at is null and coalesce(k.expires_at > now(), true)
  ) then
    return null;
  end if;
  return (
    select s.id from public.agent_sessions s
    where s.id = (claims ->> 'session_id')::uuid and s.owner = (claims ->> 'sub')::uuid
  );
end;
$$;
revoke all on function private.watched_session from public;
grant execute on function private.watched_session to watcher;

create policy "a watcher may read its session" on public.agent_sessions
  for select to watcher using (id = (select private.watched_session()));

create policy "a watcher may read the runs of its session" on public.agent_runs
  for select to watcher using (session_id = (select private.watched_session()));

create policy "a watcher may read the log of its session" on public.agent_events
  for select to watcher using (session_id = (select private.watched_session()));

-- Broadcasts only. The setting is what realtime.topic() reads: a role of our own needs no right on that function then.
create policy "a watcher may listen to its session" on realtime.messages
  for select to watcher using (
    extension = 'broadcast'
    and 'session:' || (select private.watched_session())::text = (select current_setting('realtime.topic', true))
  );
