-- The search in the memory.

-- Loads pgvector: only then does it know its setting, which a role that is no superuser may else not give a function.
select '[1]'::extensions.vector;

-- The caller's remembered tasks whose questions are at least so similar, best first; none that are older than
-- `max_age_seconds`, and none of another embedding model. At most 100.
-- Row security decides whose tasks these are. Up to two thousand of an owner's are all compared: the index ranks everyone's
-- questions, and where others' lie nearer it could read on for long and still miss one's own.
-- Raises PT400 bad_embedding.
create function public.search_similar_tasks(
  query_embedding extensions.vector(384),
  model text,
  match_threshold double precision,
  match_count integer default 10,
  max_age_seconds integer default null
) returns table (
  task_id uuid, session_id uuid, query text, context jsonb, similarity double precision, age_seconds integer,
  created_at timestamptz
)
  language plpgsql stable security invoker set search_path = ''
  -- Reads on in the index until it has enough rows that the caller may see.
  set hnsw.iterative_scan = 'strict_order'
as $$
declare
  most constant integer := 2000;
  wanted integer := least(greatest(coalesce(search_similar_tasks.match_count, 10), 0), 100);
  since timestamptz := coalesce(now() - make_interval(secs => search_similar_tasks.max_age_seconds), '-infinity');
  nearest uuid[];
begin
  if (
    extensions.vector_dims(query_embedding) = 384 and extensions.vector_norm(query_embedding) between 1e-9 and 1e9
  ) is not true then
    raise exception using errcode = 'PT400', message = 'bad_embedding', detail = 'it has 384 numbers, and not all are 0';
  end if;
  if (
    select count(*) from (
      select from public.task_results r
      where r.owner = (select auth.uid()) and r.embedding_model = search_similar_tasks.model and r.created_at > since
      limit most + 1
    ) known
  ) <= most then
    nearest := array(
      select r.task_id from public.task_results r
      where r.owner = (select auth.uid()) and r.embedding_model = search_similar_tasks.model and r.created_at > since
      -- With the 0 it is no order that the index knows.
      order by (r.embedding operator(extensions.<=>) query_embedding) + 0
      limit wanted
    );
  else
    nearest := array(
      select r.task_id from public.task_results r
      where r.owner = (select auth.uid()) and r.embedding_model = search_similar_tasks.model and r.created_at > since
      order by r.embedding operator(extensions.<=>) query_embedding
      limit wanted
    );
  end if;
  return query
    select t.id, t.session_id, t.query, t.context, f.similarity,
      extract(epoch from now() - r.created_at)::integer, r.created_at
    from public.task_results r
      join public.research_tasks t on t.id = r.task_id
      cross join lateral (select 1 - (r.embedding operator(extensions.<=>) query_embedding) as similarity) f
    where r.task_id = any (nearest) and f.similarity >= search_similar_tasks.match_threshold
    order by f.similarity desc, r.created_at desc;
end;
$$;

revoke all on function public.search_similar_tasks from public, anon, authenticated, service_role;
grant execute on function public.search_similar_tasks to authenticated;
