//! Bounds that several pools share: who has to make room for whom.

mod peer;

use std::sync::Arc;

use peer::{Mode, Peer, TestPool, limits, ms, queued, secs, settle, stop_clock, until};
use pgherd_pool::{Cap, CheckoutError, GIVE_UP_AFTER, Limits};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::advance;

fn cap(limit: usize) -> Arc<Cap> {
    Cap::new("database \"shop\"".into(), limit)
}

fn under(caps: &[&Arc<Cap>], peer: &Peer, size: usize) -> Arc<TestPool> {
    peer.capped_pool(caps.iter().map(|cap| Arc::clone(cap)).collect(), limits(size), 1)
}

#[tokio::test]
async fn idle_connections_of_another_pool_are_closed_to_make_room() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(2);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let (a, b) = tokio::join!(one.checkout(0), one.checkout(0));
    one.checkin(0, a.unwrap());
    one.checkin(0, b.unwrap());
    assert_eq!((one.status().idle, shared.open()), (2, 2));

    let (c, d) = tokio::join!(two.checkout(0), two.checkout(0));

    assert!(c.is_ok() && d.is_ok());
    assert_eq!((one.status().open, two.status().open, shared.open()), (0, 2, 2));
}

#[tokio::test]
async fn whoever_has_waited_clearly_longer_gets_the_place_of_another_pools_connection() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(1);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let only = one.checkout(0).await.unwrap();
    let own = Arc::clone(&two);
    let longer = queued(&two, async move { own.checkout(0).await.unwrap() }).await;
    advance(GIVE_UP_AFTER * 2).await;
    let own = Arc::clone(&one);
    let shorter = queued(&one, async move { own.checkout(0).await.unwrap() }).await;

    one.checkin(0, only);

    let server = longer.await.unwrap();
    assert!(!shorter.is_finished());
    assert_eq!((one.status().open, two.status().open), (0, 1));
    two.checkin(0, server);
    let _served = shorter.await.unwrap();
    assert_eq!((one.status().open, two.status().open, shared.open()), (1, 0, 1));
}

#[tokio::test]
async fn a_connection_is_not_closed_for_somebody_who_has_waited_hardly_longer() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(1);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let only = one.checkout(0).await.unwrap();
    let (own, id) = (Arc::clone(&two), only.id());
    let longer = queued(&two, async move { own.checkout(0).await.unwrap() }).await;
    advance(GIVE_UP_AFTER / 2).await;
    let own = Arc::clone(&one);
    let shorter = queued(&one, async move { own.checkout(0).await.unwrap() }).await;

    one.checkin(0, only);

    let server = shorter.await.unwrap();
    assert_eq!(server.id(), id, "the same connection");
    assert!(!longer.is_finished());
    one.checkin(0, server);
    longer.await.unwrap();
    assert_eq!(peer.logins(), 2);
}

#[tokio::test]
async fn a_client_that_left_the_queue_claims_nothing_any_more() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(1);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let only = one.checkout(0).await.unwrap();
    let (own, id) = (Arc::clone(&two), only.id());
    let left = queued(&two, async move { own.checkout(0).await.map(drop) }).await;
    left.abort();
    let _ = left.await;

    one.checkin(0, only);

    assert_eq!(one.try_checkout(0).map(|server| server.id()), Some(id), "it was kept");
}

#[tokio::test]
async fn a_client_that_waits_too_long_is_told_which_bound_stood_in_the_way() {
    let clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(1);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let _only = one.checkout(0).await.unwrap();
    drop(clock);

    let refusal = two.checkout(0).await.unwrap_err();

    assert_eq!(
        refusal,
        CheckoutError::Capped { after: secs(5), whose: "database \"shop\"".into(), limit: 1 }
    );
}

#[tokio::test]
async fn a_server_that_is_away_takes_no_room_from_one_that_is_there() {
    let _clock = stop_clock();
    let (dead, live) = (Peer::start().await, Peer::start().await);
    dead.set_mode(Mode::HangUp);
    let shared = cap(1);
    let (away, there) = (under(&[&shared], &dead, 5), under(&[&shared], &live, 5));
    let own = Arc::clone(&away);
    let waiting = queued(&away, async move { own.checkout(0).await }).await;
    until("the first attempt fails", || away.status().open_failed_total == 1).await;
    settle().await;

    let server = there.checkout(0).await.unwrap();

    // And the other way round: the dead one is tried again when there is room.
    dead.set_mode(Mode::Serve);
    advance(ms(100)).await;
    settle().await;
    assert!(!waiting.is_finished());
    there.checkin(0, server);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_smaller_bound_is_reached_as_connections_come_back_and_a_larger_one_at_once() {
    let _clock = stop_clock();
    let peer = Peer::start().await;
    let shared = cap(0);
    let (one, two) = (under(&[&shared], &peer, 5), under(&[&shared], &peer, 5));
    let (a, b, c) = tokio::join!(one.checkout(0), one.checkout(0), two.checkout(0));
    one.checkin(0, a.unwrap());
    assert_eq!(shared.open(), 3, "without a bound they are counted all the same");

    shared.set_limit(1);

    assert_eq!(shared.open(), 2, "what is idle goes at once");
    one.checkin(0, b.unwrap());
    assert_eq!(shared.open(), 1);
    let own = Arc::clone(&one);
    let waiting = queued(&one, async move { own.checkout(0).await }).await;
    settle().await;
    assert!(!waiting.is_finished());
    shared.set_limit(2);
    waiting.await.unwrap().unwrap();
    two.checkin(0, c.unwrap());
    assert_eq!(two.status().idle, 1);
}

/// Two workers, four pools under one bound in pairs and all under another; clients that come, wait and break off.
#[test]
fn a_storm_under_two_bounds_exceeds_neither_and_forgets_nobody() {
    const CLIENTS: usize = 12;
    const ROUNDS: usize = 60;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            send.send(Peer::start_unix().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let peer: Arc<Peer> = receive.recv().unwrap();
    let (all, left, right) = (cap(3), cap(2), cap(1));
    let limits = || Limits { checkout_timeout: secs(60), ..limits(2) };
    let pools: Vec<_> = [&left, &left, &right, &right]
        .map(|half| peer.capped_pool(vec![Arc::clone(&all), Arc::clone(half)], limits(), 2))
        .into();
    let finished = Arc::new(std::sync::Barrier::new(2));
    let workers = [0, 1].map(|worker| {
        let (pools, all, finished) = (pools.clone(), Arc::clone(&all), Arc::clone(&finished));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|n| {
                        let mut random = StdRng::seed_from_u64(seed ^ ((worker * 1000 + n) as u64) << 32);
                        let (pools, all) = (pools.clone(), Arc::clone(&all));
                        tokio::spawn(async move {
                            for _ in 0..ROUNDS {
                                let pool = &pools[random.random_range(0..pools.len())];
                                let patience = if random.random_ratio(1, 5) { ms(1) } else { secs(60) };
                                let Ok(server) = tokio::time::timeout(patience, pool.checkout(worker)).await
                                else {
                                    continue;
                                };
                                let server = server.unwrap_or_else(|e| panic!("{e}; {:?}", pool.status()));
                                assert!(all.open() <= 3);
                                tokio::task::yield_now().await;
                                match random.random_range(0..12) {
                                    0 => drop(server),
                                    _ => pool.checkin(worker, server),
                                }
                            }
                        })
                    })
                    .collect();
                for client in clients {
                    client.await.unwrap();
                }
                // Connections that are being opened here may be for the other worker.
                tokio::task::spawn_blocking(move || finished.wait()).await.unwrap();
            });
        })
    });
    for worker in workers {
        worker.join().unwrap();
    }
    let status: Vec<_> = pools.iter().map(|pool| pool.status()).collect();
    assert!(status.iter().all(|status| status.waiting == 0), "{status:?}");
    assert_eq!(all.open(), status.iter().map(|status| status.open).sum::<usize>(), "{status:?}");
    assert_eq!(left.open(), status[0].open + status[1].open);
    pools.iter().for_each(|pool| pool.close_idle());
    drop(pools);
    assert_eq!((all.open(), left.open(), right.open()), (0, 0, 0));
}
