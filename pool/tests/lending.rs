//! Lending, against a scripted server: order, limits, and who gets what when somebody leaves.

mod peer;

use std::sync::{Arc, Mutex};

use peer::{Mode, Peer, limits, ms, queued, secs, settle, stop_clock, until};
use pgherd_pool::{CheckoutError, ConnectError, Limits};
use pgherd_wire::message::{self, Report};
use tokio::time::advance;

#[tokio::test]
async fn clients_are_served_in_the_order_in_which_they_came() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let only = pool.checkout(0).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for n in 0..5 {
        let (own, order) = (Arc::clone(&pool), Arc::clone(&order));
        let client = async move {
            let server = own.checkout(0).await.unwrap();
            order.lock().unwrap().push(n);
            own.checkin(0, server);
        };
        clients.push(queued(&pool, client).await);
    }

    pool.checkin(0, only);
    assert!(pool.try_checkout(0).is_none(), "a newcomer finds nothing to overtake with");
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(peer.logins(), 1);
    let status = pool.status();
    assert_eq!((status.open, status.idle, status.lent, status.waiting), (1, 1, 0, 0));
    assert_eq!((status.lent_total, status.waited_total), (6, 6));
}

#[tokio::test]
async fn a_client_waiting_past_checkout_timeout_is_refused_and_leaves_the_queue() {
    let clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let _only = pool.checkout(0).await.unwrap();
    drop(clock);

    let refusal = pool.checkout(0).await.unwrap_err();

    assert_eq!(refusal, CheckoutError::TimedOut { after: secs(5) });
    let status = pool.status();
    assert_eq!((status.waiting, status.timed_out_total), (0, 1));
}

#[tokio::test]
async fn a_client_that_finds_too_many_waiting_is_refused_at_once() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(Limits { waiting_max: 1, ..limits(1) }, 1);
    let only = pool.checkout(0).await.unwrap();
    let own = Arc::clone(&pool);
    let first = queued(&pool, async move { own.checkout(0).await }).await;

    let refusal = pool.checkout(0).await.unwrap_err();

    assert_eq!(refusal, CheckoutError::TooManyWaiting { limit: 1 });
    pool.checkin(0, only);
    assert!(first.await.unwrap().is_ok());
    assert_eq!(pool.status().refused_total, 1);
}

#[tokio::test]
async fn clients_for_whom_a_connection_is_being_opened_do_not_count_as_waiting() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(Limits { waiting_max: 0, ..limits(3) }, 1);

    let (a, b, c) = tokio::join!(pool.checkout(0), pool.checkout(0), pool.checkout(0));

    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(pool.checkout(0).await.unwrap_err(), CheckoutError::TooManyWaiting { limit: 0 });
}

#[tokio::test]
async fn a_waiter_that_leaves_in_the_moment_of_its_grant_passes_the_connection_on() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let only = pool.checkout(0).await.unwrap();
    let id = only.id();
    let (own, other) = (Arc::clone(&pool), Arc::clone(&pool));
    let leaving = queued(&pool, async move { own.checkout(0).await.map(drop) }).await;
    let staying = queued(&pool, async move { other.checkout(0).await }).await;

    // Granted to the first, which is gone before it can run.
    pool.checkin(0, only);
    leaving.abort();

    let server = staying.await.unwrap().unwrap();
    assert_eq!(server.id(), id);
    let own = Arc::clone(&pool);
    let leaving = queued(&pool, async move { own.checkout(0).await.map(drop) }).await;
    pool.checkin(0, server);
    leaving.abort();
    let _ = leaving.await;
    assert_eq!(pool.try_checkout(0).unwrap().id(), id, "with nobody left it is idle again");
}

#[tokio::test]
async fn a_waiter_that_left_before_is_passed_over() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let only = pool.checkout(0).await.unwrap();
    let (own, other) = (Arc::clone(&pool), Arc::clone(&pool));
    let leaving = queued(&pool, async move { own.checkout(0).await.map(drop) }).await;
    let staying = queued(&pool, async move { other.checkout(0).await }).await;

    leaving.abort();
    let _ = leaving.await;
    assert_eq!(pool.status().waiting, 1);
    pool.checkin(0, only);

    assert!(staying.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_is_not_handed_back_frees_its_place_for_the_next_client() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let mut broken = pool.checkout(0).await.unwrap();
    broken.state.note = "of the broken one".into();
    let own = Arc::clone(&pool);
    let next = queued(&pool, async move { own.checkout(0).await.unwrap() }).await;

    drop(broken);

    let server = next.await.unwrap();
    assert_eq!((server.id(), server.state.note.as_str()), (2, ""));
    until("the old connection is closed", || peer.open() == 1).await;
    assert_eq!(peer.terminates(), 0, "the last frame may be half sent: nothing is added to it");
}

#[tokio::test]
async fn a_login_is_not_wasted_when_its_client_disappears() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(2), 1);
    let own = Arc::clone(&pool);
    let client = queued(&pool, async move { own.checkout(0).await.map(drop) }).await;

    until("the login has begun", || peer.logins() == 1).await;
    client.abort();
    until("the connection is idle", || pool.status().idle == 1).await;

    assert!(pool.try_checkout(0).is_some());
    assert_eq!(peer.logins(), 1);
}

#[tokio::test]
async fn a_waiter_of_the_own_worker_comes_first_unless_another_has_waited_much_longer() {
    let _clock = stop_clock();
    for (head_start, expected) in [(ms(5), "own"), (ms(6), "other")] {
        let peer = Peer::start().await;
        let pool = peer.pool(limits(1), 2);
        let only = pool.checkout(0).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let client = |worker: usize, name: &'static str| {
            let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
            async move {
                let server = pool.checkout(worker).await.unwrap();
                order.lock().unwrap().push(name);
                pool.checkin(worker, server);
            }
        };
        let other = queued(&pool, client(1, "other")).await;
        advance(head_start).await;
        let own = queued(&pool, client(0, "own")).await;

        pool.checkin(0, only);
        own.await.unwrap();
        other.await.unwrap();

        assert_eq!(order.lock().unwrap()[0], expected, "after {head_start:?}");
        assert_eq!(peer.logins(), 1);
    }
}

#[tokio::test]
async fn an_idle_connection_of_another_worker_is_taken_before_a_new_one_is_opened() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(2), 2);
    let server = pool.checkout(0).await.unwrap();
    pool.checkin(0, server);
    assert!(pool.try_checkout(1).is_none(), "the fast path looks at the own list only");

    let mut server = pool.checkout(1).await.unwrap();

    assert_eq!((peer.logins(), pool.status().handed_over_total), (1, 1));
    // It works where it is now.
    server.stream.write_all(message::SYNC).await.unwrap();
    let mut answer = [0; 16];
    assert_eq!(server.stream.read(&mut answer).await.unwrap(), 6);
    pool.checkin(1, server);
    assert!(pool.try_checkout(1).is_some());
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_passed_over_silently() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(2), 2);
    let (a, b) = (pool.checkout(0).await.unwrap(), pool.checkout(0).await.unwrap());
    let alive = a.id();
    let (first, second) = (a.cancel.process_id().unwrap(), b.cancel.process_id().unwrap());
    pool.checkin(0, a);
    pool.checkin(0, b);
    let mut farewell = Vec::new();
    Report::fatal("57P01", "terminating connection due to administrator command").write(&mut farewell);
    peer.say(second, farewell);
    peer.hang_up(second);
    settle().await;

    let server = pool.checkout(0).await.unwrap();

    assert_eq!((server.id(), peer.logins()), (alive, 2));
    pool.checkin(0, server);
    peer.hang_up(first);
    settle().await;
    // The same, seen from another worker; nothing is left, so a new one is opened.
    let server = pool.checkout(1).await.unwrap();
    assert_eq!((server.id(), peer.logins()), (3, 3));
    assert_eq!(pool.status().open, 1);
}

#[tokio::test]
async fn a_waiter_that_was_given_a_dead_connection_is_still_the_first_in_the_queue() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let only = pool.checkout(0).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for n in 0..2 {
        let (own, order) = (Arc::clone(&pool), Arc::clone(&order));
        let client = async move {
            let server = own.checkout(0).await.unwrap();
            order.lock().unwrap().push((n, server.id()));
            own.checkin(0, server);
        };
        clients.push(queued(&pool, client).await);
    }
    peer.hang_up(only.cancel.process_id().unwrap());
    settle().await;

    pool.checkin(0, only);
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(*order.lock().unwrap(), [(0, 2), (1, 2)]);
}

#[tokio::test]
async fn what_an_idle_server_says_is_read_before_it_is_lent() {
    let notice = |out: &mut Vec<u8>| Report::warning("01000", "checkpoint").write(out);
    let zone = |out: &mut Vec<u8>| message::parameter_status(out, "TimeZone", "Asia/Tokyo");
    // What is lent: its time zone, and whether it knows that something changed. `None`: the connection is closed.
    type Lent = Option<(&'static str, bool)>;
    let cases: [(&str, Vec<u8>, Lent); 9] = [
        ("nothing", bytes(|_| {}), Some(("UTC", false))),
        ("a notice does not make it dirty", bytes(notice), Some(("UTC", false))),
        ("a parameter after a reload", bytes(zone), Some(("Asia/Tokyo", true))),
        (
            "both",
            bytes(|out| {
                notice(out);
                zone(out);
            }),
            Some(("Asia/Tokyo", true)),
        ),
        ("more than one read", bytes(|out| (0..100).for_each(|_| notice(out))), Some(("UTC", false))),
        ("a half message", bytes(notice)[..20].to_vec(), None),
        ("a reply nobody waits for", bytes(|out| message::ready_for_query(out, b'I')), None),
        (
            "a notification: somebody's LISTEN is still there",
            bytes(|out| message::frame(out, b'A', |o| o.extend_from_slice(b"\0\0\0\x01channel\0\0"))),
            None,
        ),
        ("a length that lies", b"N\0\0\0\x01".to_vec(), None),
    ];
    let _clock = stop_clock();
    for (why, said, expected) in cases {
        let peer = Peer::start().await;
        let pool = peer.pool(limits(1), 1);
        let server = pool.checkout(0).await.unwrap();
        let before = Arc::clone(&server.parameters);
        let process = server.cancel.process_id().unwrap();
        pool.checkin(0, server);
        if !said.is_empty() {
            peer.say(process, said);
        }
        settle().await;

        let lent = pool.try_checkout(0);

        let seen = lent.as_ref().map(|s| (s.parameters.get("timezone").unwrap(), s.parameters_changed));
        assert_eq!(seen, expected, "{why}");
        assert_eq!(before.get("TimeZone"), Some("UTC"), "{why}: what others hold is not changed");
    }
}

fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[tokio::test]
async fn a_sweep_closes_what_was_idle_too_long_and_what_has_died() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(3), 1);
    let [a, b, c] =
        [pool.checkout(0).await.unwrap(), pool.checkout(0).await.unwrap(), pool.checkout(0).await.unwrap()];
    let dying = a.cancel.process_id().unwrap();
    for server in [a, b, c] {
        pool.checkin(0, server);
    }
    peer.hang_up(dying);
    settle().await;
    pool.sweep(0);
    assert_eq!(pool.status().open, 2);

    advance(secs(30)).await;
    let used = pool.try_checkout(0).unwrap();
    pool.checkin(0, used);
    pool.sweep(0);
    advance(secs(30)).await;
    pool.sweep(0);

    assert_eq!(pool.status().open, 1, "the one that was used thirty seconds ago stays");
    until("it said goodbye", || peer.terminates() == 1).await;
}

#[tokio::test]
async fn a_server_being_cancelled_is_lent_to_nobody_until_the_cancel_connection_has_closed() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let server = pool.checkout(0).await.unwrap();
    let id = server.id();
    let handle = Arc::clone(&server.cancel);
    let cancelling = tokio::spawn(async move { handle.cancel().await });
    until("the cancel has arrived", || peer.cancels() == [1]).await;

    pool.checkin(0, server);
    let own = Arc::clone(&pool);
    let next = queued(&pool, async move { own.checkout(0).await.unwrap() }).await;
    settle().await;
    assert!(!next.is_finished());
    let status = pool.status();
    assert_eq!((status.parked, status.lent, status.idle), (1, 0, 0));

    peer.cancels_done.add_permits(1);
    cancelling.await.unwrap().unwrap();
    let server = next.await.unwrap();

    assert_eq!((server.id(), peer.logins()), (id, 1), "the connection is kept");
    assert_eq!(peer.syncs(), 1, "it has passed its command loop in between");
    assert_eq!(pool.status().parked, 0);
}

#[tokio::test]
async fn a_server_whose_cancel_may_still_be_on_its_way_is_closed() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let server = pool.checkout(0).await.unwrap();
    let handle = Arc::clone(&server.cancel);
    let cancelling = tokio::spawn(async move { handle.cancel().await });
    until("the cancel has arrived", || peer.cancels() == [1]).await;

    pool.checkin(0, server);
    cancelling.abort();
    let server = pool.checkout(0).await.unwrap();

    assert_eq!((server.id(), peer.syncs()), (2, 0));
}

#[tokio::test]
async fn a_server_that_does_not_answer_after_a_cancel_is_closed() {
    let clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(Limits { checkout_timeout: secs(60), ..limits(1) }, 1);
    let server = pool.checkout(0).await.unwrap();
    peer.cancels_done.add_permits(1);
    peer.answer_sync(false);
    server.cancel.cancel().await.unwrap();

    pool.checkin(0, server);
    until("it was asked", || peer.syncs() == 1).await;
    advance(secs(6)).await;
    let server = pool.checkout(0).await.unwrap();
    drop(clock);

    assert_eq!(server.id(), 2);
}

#[tokio::test]
async fn a_cancel_that_begins_after_the_lending_reaches_nobody() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let server = pool.checkout(0).await.unwrap();
    let late = Arc::clone(&server.cancel);
    pool.checkin(0, server);
    let server = pool.try_checkout(0).expect("nothing holds it back");

    late.cancel().await.unwrap();

    settle().await;
    assert_eq!(peer.cancels(), Vec::<u32>::new());
    peer.cancels_done.add_permits(1);
    server.cancel.cancel().await.unwrap();
    assert_eq!(peer.cancels(), [1], "the handle of this lending works");
}

#[tokio::test]
async fn a_cancel_that_was_begun_and_not_sent_only_delays() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let server = pool.checkout(0).await.unwrap();
    let begun = server.cancel.begin().unwrap();
    pool.checkin(0, server);
    settle().await;
    assert_eq!((pool.status().parked, pool.status().idle), (1, 0));

    drop(begun);
    until("it is idle again", || pool.status().idle == 1).await;

    assert_eq!((peer.cancels().len(), peer.syncs(), peer.logins()), (0, 0, 1));
}

#[tokio::test]
async fn a_client_that_may_wait_does_not_notice_a_restart() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    peer.set_mode(Mode::Refuse(Report::fatal("57P03", "the database system is starting up")));
    let pool = peer.pool(limits(10), 1);
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let server = pool.checkout(0).await?;
                tokio::task::yield_now().await;
                pool.checkin(0, server);
                Ok::<_, CheckoutError>(())
            })
        })
        .collect();
    until("all have tried once", || pool.status().opening == 1).await;
    let first_round = peer.logins();
    assert!(first_round <= 10);
    for round in 1..=3 {
        advance(secs(1)).await;
        until("one more attempt", || pool.status().open_failed_total == (first_round + round) as u64).await;
    }
    assert_eq!(peer.logins(), first_round + 3, "while it fails, one at a time");

    peer.set_mode(Mode::Serve);
    advance(secs(1)).await;
    for client in clients {
        client.await.unwrap().unwrap();
    }
    assert_eq!(pool.status().failing, None);
}

#[tokio::test]
async fn a_client_that_waited_for_a_server_in_vain_learns_why_there_was_none() {
    let clock = stop_clock();
    let peer = Peer::start().await;
    peer.set_mode(Mode::HangUp);
    let pool = peer.pool(limits(2), 1);
    let own = Arc::clone(&pool);
    let client = queued(&pool, async move { own.checkout(0).await.unwrap_err() }).await;
    until("the first attempt failed", || pool.status().failing.is_some()).await;
    drop(clock);

    let refusal = client.await.unwrap();

    assert!(matches!(refusal, CheckoutError::Connect(ConnectError::Lost { .. })), "{refusal:?}");
    assert_eq!(pool.status().waiting, 0);
    tokio::time::sleep(secs(2)).await;
    let status = pool.status();
    assert_eq!((status.open, status.opening), (0, 0), "nobody waits, nobody tries");
}

#[tokio::test]
async fn a_refusal_that_time_does_not_mend_is_told_at_once_to_all_who_waited_for_it() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let report = Report::fatal("3D000", "database \"shop\" does not exist");
    peer.set_mode(Mode::Refuse(report.clone()));
    let pool = peer.pool(limits(2), 1);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.checkout(0).await.map(drop) })
        })
        .collect();

    for client in clients {
        let refusal = client.await.unwrap().unwrap_err();
        assert_eq!(refusal, CheckoutError::Connect(ConnectError::Refused(report.clone())));
    }

    assert!(peer.logins() <= 2, "{} logins for one answer", peer.logins());
    until("places are free", || pool.status().open == 0).await;
}

#[tokio::test]
async fn a_full_server_leaves_the_clients_to_the_connections_that_exist() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(5), 1);
    let only = pool.checkout(0).await.unwrap();
    peer.set_mode(Mode::Refuse(Report::fatal("53300", "sorry, too many clients already")));
    let own = Arc::clone(&pool);
    let next = queued(&pool, async move { own.checkout(0).await }).await;
    until("the attempt failed", || pool.status().failing.is_some()).await;

    pool.checkin(0, only);

    assert_eq!(next.await.unwrap().unwrap().id(), 1);
}

#[tokio::test]
async fn a_newcomer_after_failures_waits_out_the_back_off() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    peer.set_mode(Mode::Refuse(Report::fatal("3D000", "database \"shop\" does not exist")));
    let pool = peer.pool(limits(5), 1);
    assert!(pool.checkout(0).await.is_err());
    let own = Arc::clone(&pool);
    let next = queued(&pool, async move { own.checkout(0).await.map(drop) }).await;
    settle().await;
    assert_eq!(peer.logins(), 1);

    advance(ms(51)).await;

    assert!(next.await.unwrap().is_err());
    assert_eq!(peer.logins(), 2);
}

#[tokio::test]
async fn a_login_that_hangs_ends_with_connect_timeout_and_the_next_one_may_succeed() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    peer.set_mode(Mode::Hang);
    let pool = peer.pool(limits(1), 1);
    let own = Arc::clone(&pool);
    let client = queued(&pool, async move { own.checkout(0).await }).await;
    until("the login hangs", || peer.logins() == 1).await;
    peer.set_mode(Mode::Serve);

    advance(ms(2001)).await;
    until("it was given up", || pool.status().failing == Some(ConnectError::TimedOut { after: secs(2) }))
        .await;
    advance(ms(51)).await;

    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_renewed_pool_lends_no_connection_from_before() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(2), 1);
    let (lent, idle) = (pool.checkout(0).await.unwrap(), pool.checkout(0).await.unwrap());
    pool.checkin(0, idle);

    pool.renew();
    assert_eq!(pool.status().open, 1);
    pool.checkin(0, lent);

    assert_eq!(pool.status().open, 0);
    assert_eq!(pool.checkout(0).await.unwrap().id(), 3);
    until("both said goodbye", || peer.terminates() == 2).await;
}

#[tokio::test]
async fn a_retired_pool_serves_who_still_waits_and_keeps_nothing() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let only = pool.checkout(0).await.unwrap();
    let own = Arc::clone(&pool);
    let next = queued(&pool, async move { own.checkout(0).await.unwrap() }).await;

    pool.retire();
    pool.checkin(0, only);
    let server = next.await.unwrap();
    assert_eq!(server.id(), 1);
    pool.checkin(0, server);

    assert_eq!(pool.status().open, 0);
    until("the server knows", || peer.open() == 0).await;
}

#[tokio::test]
async fn a_pool_that_is_dropped_closes_its_idle_connections() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let pool = peer.pool(limits(1), 1);
    let server = pool.checkout(0).await.unwrap();
    pool.checkin(0, server);

    drop(pool);

    until("the server knows", || peer.open() == 0).await;
}

#[tokio::test]
async fn a_connection_handed_in_to_a_pool_it_does_not_belong_to_is_closed() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let (pool, stranger) = (peer.pool(limits(1), 1), peer.pool(limits(1), 1));
    let server = pool.checkout(0).await.unwrap();

    stranger.checkin(0, server);

    assert_eq!((pool.status().open, stranger.status().open), (0, 0));
    assert!(stranger.try_checkout(0).is_none());
}
