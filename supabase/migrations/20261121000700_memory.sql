-- What a runner keeps outside its sandbox and gets back in the next one: Claude's transcript, the working directory, and
-- the attachments of what was said. Every function is the run token's, for its own session, while its run is live:
-- PT403 not_a_run_token or stale_epoch, PT409 run_finished.

-- Keeps lines of a transcript, in order; '' is the conversation itself. An entry whose uuid is kept already is dropped, so
-- that a batch may be sent again; one without a uuid is appended each time. Answers {"taken", "last_n"}.
-- Raises PT400 bad_entry, PT413 too_large for more than 8 MiB or 2,000 entries.
create function public.append_transcript_v1(subpath text, entries jsonb) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_live_run_of_token();
  path text := coalesce(append_transcript_v1.subpath, '');
  base bigint;
  taken bigint;
begin
  if jsonb_typeof(append_transcript_v1.entries) is distinct from 'array' then
    raise exception using errcode = 'PT400', message = 'bad_entry', detail = 'entries is a list of objects';
  elsif pg_column_size(append_transcript_v1.entries) > 8388608 or jsonb_array_length(append_transcript_v1.entries) > 2000 then
    raise exception using errcode = 'PT413', message = 'too_large';
  end if;
  select coalesce(max(t.n), 0) into base
    from public.session_transcripts t where t.session_id = run.session_id and t.subpath = path;
  insert into public.session_transcripts (session_id, subpath, n, entry_id, bytes, entry)
    select run.session_id, path, base + e.k, left(nullif(e.entry ->> 'uuid', ''), 128), octet_length(e.entry::text), e.entry
    from jsonb_array_elements(append_transcript_v1.entries) with ordinality as e (entry, k)
    order by e.k
    on conflict do nothing;
  get diagnostics taken = row_count;
  return jsonb_build_object('taken', taken, 'last_n', (
    select coalesce(max(t.n), 0) from public.session_transcripts t where t.session_id = run.session_id and t.subpath = path
  ));
end;
$$;

-- A page of a transcript, in order: {"entries": [{"n", "entry"}], "more"}, of about 4 MiB, to be continued after its last n.
create function public.load_transcript_v1(subpath text, after bigint default 0) returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run_of_token();
  path text := coalesce(load_transcript_v1.subpath, '');
  until bigint;
  answer jsonb;
begin
  select max(p.n) into until from (
    select t.n, sum(t.bytes) over (order by t.n) as total, row_number() over (order by t.n) as k
    from (
      select x.n, x.bytes from public.session_transcripts x
      where x.session_id = run.session_id and x.subpath = path and x.n > load_transcript_v1.after
      order by x.n limit 2000
    ) t
  ) p
  -- One at least, however large.
  where p.total <= 4194304 or p.k = 1;
  select jsonb_build_object(
      'entries', coalesce(jsonb_agg(jsonb_build_object('n', t.n, 'entry', t.entry) order by t.n), '[]'),
      'more', exists (
        select from public.session_transcripts x
        where x.session_id = run.session_id and x.subpath = path and x.n > until
      )
    ) into answer
    from public.session_transcripts t
    where t.session_id = run.session_id and t.subpath = path and t.n > load_transcript_v1.after and t.n <= until;
  return answer;
end;
$$;

-- The transcripts there are: ["", "subagents/…"].
create function public.list_transcripts_v1() returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run_of_token();
begin
  return (
    select coalesce(jsonb_agg(distinct t.subpath order by t.subpath), '[]')
    from public.session_transcripts t where t.session_id = run.session_id
  );
end;
$$;

create function private.as_base64(data bytea) returns text
  language sql immutable parallel safe
  -- Postgres breaks the lines.
  return translate(encode(data, 'base64'), E'\n', '');

-- Keeps the working directory in place of what was kept before: `archive` in base64, and what it holds.
-- Answers {"saved_at"}. Raises PT413 too_large for more than 12 MiB of base64.
create function public.save_files_v1(archive text, files integer, bytes bigint) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_live_run_of_token();
begin
  if octet_length(save_files_v1.archive) > 12582912 then
    raise exception using errcode = 'PT413', message = 'too_large';
  end if;
  insert into public.session_files (session_id, archive, files, bytes)
    values (run.session_id, decode(save_files_v1.archive, 'base64'), save_files_v1.files, save_files_v1.bytes)
    on conflict on constraint session_files_pkey do update
      set archive = excluded.archive, files = excluded.files, bytes = excluded.bytes, saved_at = excluded.saved_at;
  return jsonb_build_object('saved_at', now());
end;
$$;

-- The working directory as it was last saved: {"archive", "files", "bytes", "saved_at"}; null when it never was.
create function public.load_files_v1() returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run_of_token();
begin
  return (
    select jsonb_build_object(
      'archive', private.as_base64(f.archive), 'files', f.files, 'bytes', f.bytes, 'saved_at', f.saved_at
    )
    from public.session_files f where f.session_id = run.session_id
  );
end;
$$;

-- An attachment of the session: {"media_type", "data", "title"}, data in base64. Raises PT404 attachment_not_found.
create function public.read_attachment_v1(id uuid) returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run_of_token();
  attachment public.session_attachments;
begin
  select * into attachment from public.session_attachments a
    where a.session_id = run.session_id and a.id = read_attachment_v1.id;
  if not found then
    raise exception using errcode = 'PT404', message = 'attachment_not_found';
  end if;
  return jsonb_build_object(
    'media_type', attachment.media_type, 'data', private.as_base64(attachment.data), 'title', attachment.title
  );
end;
$$;

revoke all on function public.append_transcript_v1, public.load_transcript_v1, public.list_transcripts_v1, public.save_files_v1,
  public.load_files_v1, public.read_attachment_v1 from public, anon, authenticated, service_role;
grant execute on function public.append_transcript_v1, public.load_transcript_v1, public.list_transcripts_v1,
  public.save_files_v1, public.load_files_v1, public.read_attachment_v1 to runner;
