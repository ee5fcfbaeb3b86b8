//! tokio-postgres: what applications do with it. One of the programs of `tests/drivers.rs`, which says how it is run.

use std::env::var;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut};
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel, NoTls, SimpleQueryMessage};

type Outcome = Result<(), Error>;

fn config() -> Config {
    let value = |name: &str| var(name).unwrap_or_default();
    let mut config = Config::new();
    config.host(value("PGHOST")).port(value("PGPORT").parse().unwrap_or(5432)).user(value("PGUSER"));
    config.password(value("PGPASSWORD")).dbname(value("PGDATABASE")).connect_timeout(Duration::from_secs(20));
    config
}

async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn said(error: &Error) -> String {
    match error.as_db_error() {
        Some(e) => format!(
            "{:?} {} {:?} {:?} {:?} {:?}",
            e.code(),
            e.message(),
            e.detail(),
            e.hint(),
            e.constraint(),
            e.position()
        ),
        None => error.to_string(),
    }
}

fn show(what: &str, value: impl Debug) {
    println!("   {what} {value:?}");
}

fn attempt<T: Debug>(what: &str, result: Result<T, Error>) {
    match result {
        Ok(value) => show(what, value),
        Err(error) => println!("   {what}: {}", said(&error)),
    }
}

async fn connecting() -> Outcome {
    let client =
        connect(config().application_name("tour").options("-c search_path=elsewhere,public -c geqo=off"))
            .await?;
    for name in ["application_name", "search_path", "geqo"] {
        show(name, client.query_one(&format!("SHOW {name}"), &[]).await?.get::<_, String>(0));
    }
    attempt("a bad option", connect(config().options("-c nonsense=1")).await.map(drop));
    show("valid", client.check_connection().await.is_ok());
    Ok(())
}

async fn types() -> Outcome {
    let client = connect(&config()).await?;
    client.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE kinds (i int, b bigint, f float8, t text, y bytea, a int[], o bool)").await?;
    for turn in 0..6 {
        let row = client
            .query_one(
                "INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *",
                &[
                    &turn,
                    &(1_i64 << 60),
                    &2.25_f64,
                    &"naïve\n",
                    &&[0_u8, 1, 255][..],
                    &vec![Some(1), None],
                    &Some(true),
                ],
            )
            .await?;
        let numbers =
            (row.get::<_, i32>(0), row.get::<_, i64>(1), row.get::<_, f64>(2), row.get::<_, Option<bool>>(6));
        show(
            "row",
            (numbers, row.get::<_, &str>(3), row.get::<_, &[u8]>(4), row.get::<_, Vec<Option<i32>>>(5)),
        );
    }
    let statement = client.prepare("SELECT $1::mood, $1::mood = 'ok'").await?;
    show("parameters", statement.params().iter().map(|t| t.name().to_owned()).collect::<Vec<_>>());
    show(
        "columns",
        statement
            .columns()
            .iter()
            .map(|c| (c.name().to_owned(), c.type_().name().to_owned()))
            .collect::<Vec<_>>(),
    );
    attempt("not a number", client.query("SELECT $1::text::int", &[&"x"]).await.map(|rows| rows.len()));
    attempt(
        "typed",
        client
            .query_typed("SELECT $1 + 1", &[(&41_i32, tokio_postgres::types::Type::INT4)])
            .await
            .map(|rows| rows[0].get::<_, i32>(0)),
    );
    Ok(())
}

async fn prepared() -> Outcome {
    let (client, other) = (connect(&config()).await?, connect(&config()).await?);
    client.batch_execute("CREATE TABLE numbers (id int PRIMARY KEY, v text); INSERT INTO numbers SELECT i, 'v' || i FROM generate_series(0, 99) i").await?;
    let statement = client.prepare("SELECT * FROM numbers WHERE id = $1").await?;
    for id in 0..5 {
        show("row", client.query_one(&statement, &[&id]).await?.get::<_, String>(1));
    }
    other.batch_execute("ALTER TABLE numbers ADD COLUMN more int DEFAULT 5").await?;
    attempt("after ALTER by another", client.query_one(&statement, &[&1]).await.map(|row| row.len()));
    let statement = client.prepare("SELECT * FROM numbers WHERE id = $1").await?;
    attempt("prepared again", client.query_one(&statement, &[&1]).await.map(|row| row.len()));
    attempt("does not parse", client.prepare("SELECT * FROM nowhere").await.map(|s| s.columns().len()));
    // All at once on one connection: the driver pipelines them.
    let texts: Vec<_> =
        (0..40).map(|i| format!("SELECT {i} + count(*)::int FROM numbers WHERE id > $1")).collect();
    let all = future::join_all(texts.iter().map(|text| client.query_one(text, &[&50]))).await;
    show(
        "pipelined",
        all.into_iter().map(|row| row.map(|row| row.get::<_, i32>(0)).unwrap_or(-1)).collect::<Vec<_>>(),
    );
    let (good, bad, after) = future::join3(
        client.query_one("SELECT 1", &[]),
        client.query_one("SELECT 1 / (id - id) FROM numbers LIMIT 1", &[]),
        client.query_one("SELECT 3", &[]),
    )
    .await;
    attempt("good", good.map(|row| row.get::<_, i32>(0)));
    attempt("bad", bad.map(|row| row.get::<_, i32>(0)));
    attempt("after", after.map(|row| row.get::<_, i32>(0)));
    Ok(())
}

async fn transactions() -> Outcome {
    let mut client = connect(&config()).await?;
    client.batch_execute("CREATE TABLE accounts (id int PRIMARY KEY, n int CHECK (n >= 0), late int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await?;
    let mut transaction = client.transaction().await?;
    transaction.execute("INSERT INTO accounts VALUES (1, 10, 1)", &[]).await?;
    let inner = transaction.savepoint("inner").await?;
    attempt("check", inner.execute("UPDATE accounts SET n = $1", &[&-1]).await);
    attempt("aborted", inner.execute("UPDATE accounts SET n = $1", &[&2]).await);
    inner.rollback().await?;
    attempt("after it", transaction.execute("UPDATE accounts SET n = $1", &[&3]).await);
    transaction.commit().await?;
    drop(client.transaction().await?);
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .read_only(true)
        .start()
        .await?;
    attempt("read only", transaction.execute("DELETE FROM accounts", &[]).await);
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO accounts VALUES (2, 1, 1)", &[]).await?;
    attempt("deferred", transaction.commit().await);
    show(
        "rows",
        client
            .query("SELECT n FROM accounts", &[])
            .await?
            .iter()
            .map(|row| row.get::<_, i32>(0))
            .collect::<Vec<_>>(),
    );
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT i FROM generate_series(1, 10) i", &[]).await?;
    for _ in 0..4 {
        let rows = transaction.query_portal(&portal, 3).await?;
        show("portal", rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>());
    }
    transaction.commit().await
}

async fn several() -> Outcome {
    let client = connect(&config()).await?;
    for sql in [
        "SELECT 1 AS a; SELECT 'x' AS b, NULL AS c; CREATE TABLE s (a int)",
        "",
        "SELECT 1; SELECT 1/0; SELECT 2",
        "SET work_mem TO '7MB'; SHOW work_mem",
    ] {
        let said = client.simple_query(sql).await.map(|messages| {
            let shown = messages.iter().map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(",")
                }
                SimpleQueryMessage::CommandComplete(rows) => format!("{rows} rows"),
                _ => "columns".into(),
            });
            shown.collect::<Vec<_>>()
        });
        attempt(sql, said);
    }
    Ok(())
}

async fn copying() -> Outcome {
    let client = connect(&config()).await?;
    client.batch_execute("CREATE TABLE rows (id int, v text)").await?;
    let sink = client.copy_in("COPY rows FROM STDIN").await?;
    pin_mut!(sink);
    for id in 0..2000 {
        sink.send(bytes(format!("{id}\tvalue {id}\n"))).await?;
    }
    show("copied", sink.finish().await?);
    let sink = client.copy_in("COPY rows FROM STDIN").await?;
    pin_mut!(sink);
    sink.send(bytes("x\ty\n".into())).await?;
    attempt("bad rows", sink.finish().await);
    {
        // Left in the middle: the driver says CopyFail.
        let sink = client.copy_in::<_, std::io::Cursor<Vec<u8>>>("COPY rows FROM STDIN").await?;
        drop(sink);
    }
    let out = client.copy_out("COPY (SELECT * FROM rows ORDER BY id) TO STDOUT").await?;
    let bytes: usize =
        out.map_ok(|piece| piece.len()).try_fold(0, |sum, n| future::ready(Ok(sum + n))).await?;
    show("out", bytes);
    show("count", client.query_one("SELECT count(*) FROM rows", &[]).await?.get::<_, i64>(0));
    Ok(())
}

fn bytes(text: String) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(text.into_bytes())
}

async fn notifications() -> Outcome {
    let (client, mut connection) = config().connect(NoTls).await?;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            match message {
                AsyncMessage::Notification(n) => drop(heard.send(format!("{} {}", n.channel(), n.payload()))),
                AsyncMessage::Notice(n) => drop(heard.send(format!("{} {}", n.severity(), n.message()))),
                _ => {}
            }
        }
    });
    let other = connect(&config()).await?;
    client.batch_execute("LISTEN tour").await?;
    for n in 0..3 {
        other.execute("SELECT pg_notify('tour', $1)", &[&n.to_string()]).await?;
        show("heard", tokio::time::timeout(Duration::from_secs(20), hears.recv()).await.ok().flatten());
    }
    client.batch_execute("UNLISTEN *; DO $$ BEGIN RAISE WARNING 'beware'; END $$").await?;
    show("heard", tokio::time::timeout(Duration::from_secs(20), hears.recv()).await.ok().flatten());
    Ok(())
}

async fn cancelling() -> Outcome {
    let client = connect(&config()).await?;
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = future::join(client.execute("SELECT pg_sleep(30)", &[]), cancel).await;
    attempt("slept", slept);
    attempt("cancelled", cancelled);
    attempt("after", client.query_one("SELECT 1", &[]).await.map(|row| row.get::<_, i32>(0)));
    Ok(())
}

async fn many_clients() -> Outcome {
    let first = connect(&config()).await?;
    first.batch_execute("CREATE TABLE sums (id int PRIMARY KEY, n int); INSERT INTO sums SELECT i, 0 FROM generate_series(1, 5) i").await?;
    let work = |number: i32| async move {
        let mut client = connect(&config()).await?;
        for turn in 0..10 {
            let transaction = client.transaction().await?;
            transaction
                .execute("SELECT set_config('work_mem', $1, true)", &[&format!("{}kB", 100 + number)])
                .await?;
            transaction.execute("UPDATE sums SET n = n + 1 WHERE id = $1", &[&(turn % 5 + 1)]).await?;
            transaction.commit().await?;
        }
        Ok::<_, Error>(())
    };
    for result in future::join_all((0..8).map(work)).await {
        result?;
    }
    show("sum", first.query_one("SELECT sum(n) FROM sums", &[]).await?.get::<_, i64>(0));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let only = var("ONLY").unwrap_or_default();
    macro_rules! sections {
        ($($name:ident),*) => {$(
            if stringify!($name).contains(&only) {
                println!("== {}", stringify!($name));
                if let Err(error) = Box::pin($name()).await {
                    println!("   !! ended: {}", said(&error));
                }
            }
        )*};
    }
    sections!(
        connecting,
        types,
        prepared,
        transactions,
        several,
        copying,
        notifications,
        cancelling,
        many_clients
    );
}
