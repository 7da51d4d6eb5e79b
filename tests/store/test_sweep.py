from gateway.store import changes, sessions, throttle
from gateway.store.sweep import ENDED_SESSIONS_KEPT_SECONDS, sweep


def test_a_sweep_takes_what_is_over_and_no_authority_from_who_lives(store, world):
    ada = world.person("ada")
    world.session(ada, "ses_old", until=world.now + 1)
    now = world.now + ENDED_SESSIONS_KEPT_SECONDS + 2
    world.session(ada, "ses_live", until=now + 1)
    store.run(lambda c: throttle.hit(c, "k", world.now, 60.0))
    before = store.read(changes.position)
    assert store.run(lambda c: sweep(c, now)) == 1
    assert store.read(lambda c: sessions.get(c, "ses_old")).ended_why == "expired"
    assert [change.key for change in store.read(lambda c: changes.since(c, before)).changes] == ["ses_old"]
    now += ENDED_SESSIONS_KEPT_SECONDS + 1
    world.session(ada, "ses_live_2", until=now + 1)
    store.run(lambda c: sessions.end(c, "ses_live", "", now))
    before = store.read(changes.position)
    assert store.run(lambda c: sweep(c, now)) == 1
    assert store.run(lambda c: sweep(c, now)) == 0
    assert [session.id for session in store.read(lambda c: sessions.listing(c, now))] == ["ses_live_2"]
    assert store.read(changes.position) == before
