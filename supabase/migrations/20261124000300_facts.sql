-- As before; but a run's input is its owner's word. What is no number there is no place in the log, and stops no sweep, which
-- reads these facts of everyone's runs in one call.
create or replace function private.session_facts(of_session uuid) returns jsonb
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
        select min(private.as_count(r.input -> 'after_seq')) from public.agent_runs r
        where r.session_id = s.id and jsonb_typeof(r.input -> 'after_seq') = 'number'
          and not private.ended_well(r) and not private.is_live(r.status) and not exists (
            select from public.agent_runs l
            where l.session_id = s.id and private.ended_well(l) and l.created_at > r.created_at
          )
      ),
      'has_transcript', exists (select from public.session_transcripts t where t.session_id = s.id and t.subpath = ''),
      'has_files', exists (select from public.session_files f where f.session_id = s.id)
    )
    from public.agent_sessions s where s.id = of_session
  );
