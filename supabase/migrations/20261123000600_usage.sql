-- What an owner has spent, as they see it; and embeddings, which the endpoints use and no runner tells of.

create function private.usage_by_day(of_owner uuid, first_day date, last_day date) returns jsonb
  language sql stable set search_path = ''
  return (
    with spends as materialized (
      select l.id, (l.created_at at time zone 'utc')::date as day, l.kind, l.model, l.amount_microusd, l.quantity
      from public.ledger l
      where l.owner = of_owner and l.entry = 'spend'
        and l.created_at >= first_day::timestamp at time zone 'utc'
        and l.created_at < (last_day + 1)::timestamp at time zone 'utc'
    ), amounts as materialized (
      select s.day, s.kind, s.model, sum(s.amount_microusd)::bigint as amount from spends s group by s.day, s.kind, s.model
    ), counts as materialized (
      select c.day, c.kind, c.model, jsonb_object_agg(c.key, c.count) as quantity
      from (
        select s.day, s.kind, s.model, q.key, sum(q.value::bigint)::bigint as count
        from spends s, jsonb_each_text(s.quantity) q group by s.day, s.kind, s.model, q.key
      ) c
      group by c.day, c.kind, c.model
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'day', a.day, 'kind', a.kind, 'model', a.model, 'amount_microusd', a.amount,
        'quantity', coalesce(c.quantity, '{}')
      ) order by a.day, a.kind, a.model), '[]')
    -- Equal to nothing, a null would keep the join from being a hash of the two.
    from amounts a left join counts c on c.day = a.day and c.kind = a.kind and coalesce(c.model, '') = coalesce(a.model, '')
  );

create function private.month_of(of_owner uuid) returns jsonb
  language sql stable set search_path = ''
  return (
    select jsonb_build_object(
      'month', to_char(private.this_month(), 'YYYY-MM'),
      'spent_microusd', private.spent_this_month(of_owner),
      'reserved_microusd', private.reserved_now(of_owner),
      'limit_microusd', l.max_month_microusd,
      -- greatest() takes no notice of a null.
      'remainder_microusd', case when l.max_month_microusd is not null then greatest(0, private.month_remainder(of_owner)) end
    )
    from private.limits_of(of_owner) l
  );

-- By day of UTC, kind and model. Answers {"from", "to", "days": [{"day", "kind", "model", "amount_microusd", "quantity"}],
-- "month": {"month", "spent_microusd", "reserved_microusd", "limit_microusd", "remainder_microusd"}, "prices_as_of"}; a
-- month without limit has null for it and for what is left.
-- Raises PT401 not_signed_in, PT400 invalid_request_error for more than 366 days or none.
create function public.read_usage_v1(from_day date default null, to_day date default null) returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  first_day date := coalesce(read_usage_v1.from_day, private.this_month());
  last_day date := coalesce(read_usage_v1.to_day, (now() at time zone 'utc')::date);
begin
  if last_day < first_day or last_day - first_day > 365 then
    raise exception using
      errcode = 'PT400', message = 'invalid_request_error', detail = 'from 1 to 366 days', hint = 'from';
  end if;
  return jsonb_build_object(
    'from', first_day,
    'to', last_day,
    'days', private.usage_by_day(caller, first_day, last_day),
    'month', private.month_of(caller),
    'prices_as_of', (select p.list ->> 'as_of' from private.price_list p)
  );
end;
$$;

-- Texts that the endpoints had embedded for an owner. An unknown model is charged at the dearest price.
create function public.charge_embeddings_v1(owner uuid, session_id uuid, model text, tokens bigint) returns void
  language plpgsql security definer set search_path = ''
as $$
declare
  prices jsonb := (select p.list -> 'embeddings' from private.price_list p);
  known text := private.listed_name(charge_embeddings_v1.model);
  spent public.ledger;
begin
  spent.owner := charge_embeddings_v1.owner;
  spent.session_id := charge_embeddings_v1.session_id;
  spent.kind := 'embedding';
  spent.model := charge_embeddings_v1.model;
  spent.quantity := jsonb_build_object('input_tokens', charge_embeddings_v1.tokens);
  spent.is_known := coalesce(prices ? known, false);
  spent.price := case
    when spent.is_known then known
    else (select e.key from jsonb_each(prices) e order by (e.value::text)::bigint desc, e.key limit 1)
  end;
  spent.amount_microusd := ceil(
    greatest(0, charge_embeddings_v1.tokens)::numeric * private.as_count(prices -> spent.price) / 1000
  );
  perform from public.agent_sessions s where s.id = charge_embeddings_v1.session_id for no key update;
  perform private.spend(spent);
end;
$$;

revoke all on function public.read_usage_v1, public.charge_embeddings_v1 from public, anon, authenticated, service_role;
grant execute on function public.read_usage_v1 to authenticated;
grant execute on function public.charge_embeddings_v1 to service_role;
