-- Who may read what. Nobody writes a table directly: anon, authenticated and runner have no such grant at all.

do $$
begin
  -- Roles belong to the whole cluster and outlive `supabase db reset`.
  if not exists (select from pg_roles where rolname = 'runner') then
    create role runner nologin noinherit;
  end if;
end;
$$;
grant runner to authenticator;
grant usage on schema public to runner;

alter table public.agent_sessions enable row level security;
alter table public.agent_sessions force row level security;
alter table public.agent_runs enable row level security;
alter table public.agent_runs force row level security;
alter table public.agent_events enable row level security;
alter table public.agent_events force row level security;
alter table public.sandbox_executions enable row level security;
alter table public.sandbox_executions force row level security;
alter table public.idempotency_keys enable row level security;
alter table public.idempotency_keys force row level security;

revoke all on public.agent_sessions, public.agent_runs, public.agent_events, public.sandbox_executions,
  public.idempotency_keys from public, anon, authenticated, service_role;
grant select on public.agent_sessions, public.agent_runs, public.agent_events, public.sandbox_executions
  to authenticated, service_role;

create policy "the owner may read a session" on public.agent_sessions
  for select to authenticated using (owner = (select auth.uid()));

create policy "the owner may read a run" on public.agent_runs
  for select to authenticated using (owner = (select auth.uid()));

create policy "the owner of a session may read its log" on public.agent_events
  for select to authenticated using (
    exists (
      select from public.agent_sessions s
      where s.id = agent_events.session_id and s.owner = (select auth.uid())
    )
  );

create policy "the owner may read what ran where" on public.sandbox_executions
  for select to authenticated using (owner = (select auth.uid()));

-- No policy and no grant: idempotency keys are read and written by functions only.
