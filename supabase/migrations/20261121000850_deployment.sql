-- What the doctor asks: whether this database is as the migrations leave it. Names only, nobody's data.

-- `functions`: the names in `public`. `tables`: each, and whether its row security is on and forced. `published`: the
-- tables whose changes Realtime tells.
create function public.deployment_facts_v1() returns jsonb
  language sql stable set search_path = ''
  return jsonb_build_object(
    'functions', (
      select coalesce(jsonb_agg(distinct p.proname order by p.proname), '[]')
      from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace
    ),
    'tables', (
      select coalesce(jsonb_object_agg(c.relname, c.relrowsecurity and c.relforcerowsecurity), '{}')
      from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    ),
    'published', (
      select coalesce(jsonb_agg(t.tablename order by t.tablename), '[]')
      from pg_catalog.pg_publication_tables t where t.pubname = 'supabase_realtime' and t.schemaname = 'public'
    )
  );

revoke all on function public.deployment_facts_v1 from public, anon, authenticated, service_role;
grant execute on function public.deployment_facts_v1 to service_role;
