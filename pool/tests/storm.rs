//! Two workers with a runtime each, and clients that come, wait, break off, break connections and cancel at random.

mod peer;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use peer::{Peer, TestPool, limits, ms, secs};
use pgherd_pool::{Gate, Limits};
use pgherd_wire::message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const WORKERS: usize = 2;
const CLIENTS: usize = 24;
const ROUNDS: usize = 150;

/// Who holds what, as the clients see it.
#[derive(Default)]
struct Held {
    connections: Mutex<HashSet<u64>>,
    most: AtomicUsize,
}

impl Held {
    fn take(&self, id: u64) {
        let mut connections = self.connections.lock().unwrap();
        assert!(connections.insert(id), "connection {id} is lent twice");
        self.most.fetch_max(connections.len(), Ordering::Relaxed);
    }

    fn give(&self, id: u64) {
        assert!(self.connections.lock().unwrap().remove(&id));
    }
}

async fn client(pool: Arc<TestPool>, held: Arc<Held>, worker: usize, mut random: StdRng, rough: bool) {
    for _ in 0..ROUNDS {
        let impatient = rough && random.random_ratio(1, 4);
        let server = if impatient {
            let patience = std::time::Duration::from_micros(random.random_range(0..400));
            match tokio::time::timeout(patience, pool.checkout(worker)).await {
                Ok(server) => server,
                Err(_) => continue,
            }
        } else {
            pool.checkout(worker).await
        };
        let mut server = server.unwrap_or_else(|error| panic!("{error}; {:?}", pool.status()));
        held.take(server.id());

        let cancelling = (rough && random.random_ratio(1, 60)).then(|| {
            let handle = Arc::clone(&server.cancel);
            tokio::spawn(async move { handle.cancel().await })
        });
        let mut answer = [0; 64];
        let answered = match server.stream.write_all(message::SYNC).await {
            Ok(()) => server.stream.read(&mut answer).await.unwrap_or(0),
            Err(_) => 0,
        };
        if random.random_ratio(1, 3) {
            tokio::task::yield_now().await;
        }
        held.give(server.id());
        match answered {
            6 => {
                assert_eq!(answer[..6], *b"Z\0\0\0\x05I", "a reply that was for somebody else");
                match random.random_range(0..40) {
                    0 if rough => drop(server),
                    1 if rough => server.terminate(),
                    _ => pool.checkin(worker, server),
                }
            }
            0 => assert!(rough, "a connection was lost in fair weather"),
            n => panic!("{n} bytes: {:?}", &answer[..n]),
        }
        if let Some(cancelling) = cancelling
            && random.random()
        {
            cancelling.abort();
        }
    }
}

fn storm(seed: u64, size: usize, rough: bool) {
    println!("seed {seed}, size {size}, rough {rough}");
    let (send, receive) = std::sync::mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let weather = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let peer = if rough { Peer::start_unix().await } else { Peer::start().await };
                peer.cancels_done.add_permits(1_000_000);
                send.send(Arc::clone(&peer)).unwrap();
                let start = Instant::now();
                let mut gusts = 0;
                while !over.load(Ordering::Relaxed) {
                    tokio::time::sleep(ms(1)).await;
                    if rough && start.elapsed() > ms(20) * (gusts + 1) {
                        gusts += 1;
                        peer.hang_up_all();
                    }
                }
            });
        }
    });
    let peer = receive.recv().unwrap();
    let limits = Limits { checkout_timeout: secs(30), waiting_max: WORKERS * CLIENTS, ..limits(size) };
    let pool = peer.pool(limits, WORKERS);
    let held = Arc::new(Held::default());
    let all_served = Arc::new(AtomicUsize::new(0));

    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (pool, held) = (Arc::clone(&pool), Arc::clone(&held));
            let all_served = Arc::clone(&all_served);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    // The second worker has few clients: connections must go back and forth.
                    let clients: Vec<_> = (0..CLIENTS / (1 + 3 * worker))
                        .map(|n| {
                            let random = StdRng::seed_from_u64(seed ^ ((worker * 1000 + n) as u64) << 32);
                            let client = client(Arc::clone(&pool), Arc::clone(&held), worker, random, rough);
                            tokio::spawn(client)
                        })
                        .collect();
                    let watched = tokio::spawn({
                        let pool = Arc::clone(&pool);
                        async move {
                            loop {
                                tokio::time::sleep(ms(1)).await;
                                pool.sweep(worker);
                                let open = pool.status().open;
                                assert!(open <= size, "{open} places taken of {size}");
                            }
                        }
                    });
                    for client in clients {
                        client.await.unwrap();
                    }
                    assert!(!watched.is_finished(), "the limit was exceeded");
                    // Late cancels are waited for, so that the counts below are at rest.
                    let start = Instant::now();
                    while pool.status().parked > 0 && start.elapsed() < secs(10) {
                        tokio::time::sleep(ms(1)).await;
                    }
                    // Its runtime must live on: a connection that is being opened here may be for the other worker, and
                    // one that is idle here counts as dead without it.
                    all_served.fetch_add(1, Ordering::SeqCst);
                    while all_served.load(Ordering::SeqCst) < WORKERS {
                        tokio::time::sleep(ms(1)).await;
                    }
                });
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    over.store(true, Ordering::Relaxed);

    let status = pool.status();
    println!("{status:?}");
    assert!(held.most.load(Ordering::Relaxed) <= size);
    assert_eq!((status.waiting, status.lent, status.parked), (0, 0, 0));
    assert_eq!(status.open, status.idle + status.opening);
    if !rough {
        assert!(status.opened_total <= size as u64, "connections were lost");
        assert!(peer.open_at_once() <= size);
    }
    weather.join().unwrap();
}

#[test]
fn a_storm_over_two_workers_never_exceeds_the_limit_and_forgets_nobody() {
    let seed = rand::random();
    for size in [1, 2, 5] {
        storm(seed, size, true);
    }
}

#[test]
fn in_fair_weather_no_connection_is_ever_lost_on_its_way_between_workers() {
    let seed = rand::random();
    for size in [1, 3, 30] {
        storm(seed, size, false);
    }
}

#[test]
fn a_runtime_that_shuts_down_leaves_the_clients_of_the_other_one_served() {
    let (send, receive) = std::sync::mpsc::channel();
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = Peer::start().await;
            send.send(Arc::clone(&peer)).unwrap();
            tokio::time::sleep(secs(2)).await;
        });
    });
    let peer = receive.recv().unwrap();
    let pool = peer.pool(limits(1), WORKERS);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let staying = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let only = pool.checkout(0).await.unwrap();
        // The first waiters are of the runtime that ends, and so is who holds the connection.
        for _ in 0..3 {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.checkout(0).await.map(drop) });
        }
        tokio::spawn(async move {
            let _held = only;
            std::future::pending::<()>().await;
        });
        tokio::time::sleep(ms(5)).await;
    });
    assert_eq!(pool.status().waiting, 3);
    staying.block_on(async {
        let client = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.checkout(1).await }
        });
        tokio::time::sleep(ms(5)).await;
        assert_eq!(pool.status().waiting, 4);

        tokio::task::spawn_blocking(move || drop(other)).await.unwrap();

        assert!(client.await.unwrap().is_ok());
        assert_eq!(pool.status().waiting, 0);
    });
    serving.join().unwrap();
}

#[test]
fn transactions_over_two_pools_of_one_do_not_block_each_other_behind_a_gate() {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            send.send((Peer::start().await, Peer::start().await)).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let (first, second) = receive.recv().unwrap();
    let pools = [first.pool(limits(1), WORKERS), second.pool(limits(1), WORKERS)];
    let gate = Gate::new(1, 100);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (pools, gate) = (pools.clone(), Arc::clone(&gate));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for round in 0..200 {
                        let _pass = gate.enter(secs(5)).await.unwrap();
                        // Each worker in its own order, which without the gate ends in a deadlock.
                        let order = if (worker + round) % 2 == 0 { [0, 1] } else { [1, 0] };
                        let a = pools[order[0]].checkout(worker).await.unwrap();
                        tokio::task::yield_now().await;
                        let b = pools[order[1]].checkout(worker).await.unwrap();
                        pools[order[0]].checkin(worker, a);
                        pools[order[1]].checkin(worker, b);
                    }
                });
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
}
