-- Nothing to seed: users come from Auth, sessions and runs from the endpoints.
select 1;
