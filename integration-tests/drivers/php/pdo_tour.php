<?php
// PDO over libpq, and the functions of ext/pgsql: what applications do with them.

function show(...$values) {
    echo "   ", implode(" ", array_map(fn($v) => json_encode($v, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES), $values)), "\n";
}

function connect(array $options = []): PDO {
    $dsn = sprintf("pgsql:host=%s;port=%s;dbname=%s;connect_timeout=20", getenv("PGHOST"), getenv("PGPORT"), getenv("PGDATABASE"));
    return new PDO($dsn, getenv("PGUSER"), getenv("PGPASSWORD"), $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function attempt(string $what, callable $do) {
    try {
        show($what, $do());
    } catch (PDOException $e) {
        show($what, $e->errorInfo[0] ?? null, strtok($e->errorInfo[2] ?? $e->getMessage(), "\n"));
    }
}

$sections = [];

$sections["statements"] = function () {
    $db = connect();
    $db->exec("CREATE TABLE p (id serial PRIMARY KEY, name text UNIQUE, data bytea, at timestamptz)");
    $insert = $db->prepare("INSERT INTO p (name, data) VALUES (?, ?) RETURNING id");
    foreach (["one", "two", "drei ü"] as $name) {
        $insert->bindValue(1, $name);
        $insert->bindValue(2, "\x00\xff" . $name, PDO::PARAM_LOB);
        $insert->execute();
        show($insert->fetchColumn());
    }
    // lastval() is of the session: in a transaction of its own another session's would be next.
    $db->beginTransaction();
    $db->exec("INSERT INTO p (name) VALUES ('last')");
    show($db->lastInsertId(), $db->lastInsertId("p_id_seq"));
    $db->commit();
    attempt("again", function () use ($insert) {
        $insert->bindValue(1, "one");
        $insert->bindValue(2, null);
        return $insert->execute();
    });
    $select = $db->prepare("SELECT id, name, octet_length(data) FROM p WHERE id > :id ORDER BY id");
    foreach ([0, 1, 2, 0, 1, 2, 0] as $id) {
        $select->execute(["id" => $id]);
        show($select->fetchAll(PDO::FETCH_NUM));
    }
    show($db->query("SELECT 1 AS a, true AS b, 2.5::float8 AS c, NULL AS d")->fetch(PDO::FETCH_ASSOC));
    attempt("a bad value", fn() => $select->execute(["id" => "x"]));
    attempt("a bad statement", fn() => $db->prepare("SELEC")->execute());
};

$sections["emulated"] = function () {
    $db = connect([PDO::ATTR_EMULATE_PREPARES => true]);
    $select = $db->prepare("SELECT ?::int + 1, ?");
    for ($n = 0; $n < 10; $n++) {
        $select->execute([$n, "it's"]);
    }
    show($select->fetchAll(PDO::FETCH_NUM));
    $direct = connect([PDO::PGSQL_ATTR_DISABLE_PREPARES => true]);
    $select = $direct->prepare("SELECT ?::int + 1, ?");
    for ($n = 0; $n < 10; $n++) {
        $select->execute([$n, "it's"]);
    }
    show($select->fetchAll(PDO::FETCH_NUM));
};

$sections["transactions"] = function () {
    $db = connect();
    $db->exec("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    $db->beginTransaction();
    $db->exec("INSERT INTO t VALUES (1)");
    $db->commit();
    $db->beginTransaction();
    $db->exec("INSERT INTO t VALUES (2)");
    show($db->inTransaction());
    $db->rollBack();
    $db->beginTransaction();
    $db->exec("INSERT INTO t VALUES (1)");
    attempt("a commit that fails", fn() => $db->commit());
    show($db->query("SELECT array_agg(a) FROM t")->fetchColumn(), $db->inTransaction());
    $db->beginTransaction();
    attempt("inside", fn() => $db->exec("SELECT 1/0"));
    attempt("aborted", fn() => $db->query("SELECT 1")->fetchColumn());
    $db->rollBack();
    show($db->query("SELECT 'after'")->fetchColumn());
};

$sections["cursors"] = function () {
    $db = connect();
    $db->beginTransaction();
    $scroll = $db->prepare("SELECT generate_series(1, 5)", [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $scroll->execute();
    show($scroll->fetch(PDO::FETCH_NUM), $scroll->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_LAST), $scroll->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_PRIOR));
    $scroll = null;
    $db->commit();
};

$sections["copy_and_large_objects"] = function () {
    $db = connect();
    $db->exec("CREATE TABLE c (a int, b text)");
    show($db->pgsqlCopyFromArray("c", array_map(fn($n) => "$n\trow $n", range(1, 300))));
    show(array_slice($db->pgsqlCopyToArray("c"), 0, 2));
    attempt("bad data", fn() => $db->pgsqlCopyFromArray("c", ["x\ty"]));
    show($db->query("SELECT count(*) FROM c")->fetchColumn());
    $db->beginTransaction();
    $oid = $db->pgsqlLOBCreate();
    $stream = $db->pgsqlLOBOpen($oid, "w");
    fwrite($stream, str_repeat("x", 20000));
    $stream = null;
    $stream = $db->pgsqlLOBOpen($oid, "r");
    show(strlen(stream_get_contents($stream)));
    $stream = null;
    show($db->pgsqlLOBUnlink($oid));
    $db->commit();
};

$sections["notify"] = function () {
    $db = connect();
    $other = connect();
    $db->exec("LISTEN php");
    $other->exec("NOTIFY php, 'hello'");
    $heard = $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
    show($heard["message"] ?? null, $heard["payload"] ?? null);
};

$sections["persistent"] = function () {
    for ($n = 0; $n < 5; $n++) {
        $db = connect([PDO::ATTR_PERSISTENT => true]);
        $statement = $db->prepare("SELECT ?::int * 2");
        $statement->execute([$n]);
        show($statement->fetchColumn());
        $statement = null;
        $db = null;
    }
};

$sections["ext_pgsql"] = function () {
    $c = pg_connect(sprintf("host=%s port=%s dbname=%s user=%s password=%s", getenv("PGHOST"), getenv("PGPORT"), getenv("PGDATABASE"), getenv("PGUSER"), getenv("PGPASSWORD")));
    pg_prepare($c, "q", "SELECT $1::text || '!'");
    for ($n = 0; $n < 5; $n++) {
        $r = pg_execute($c, "q", ["n$n"]);
    }
    show(pg_fetch_row($r));
    show(pg_fetch_all(pg_query_params($c, "SELECT $1::int AS a", [5])));
    pg_send_query($c, "SELECT 1; SELECT 1/0; SELECT 2");
    while ($r = pg_get_result($c)) {
        show(pg_result_status($r), pg_result_error_field($r, PGSQL_DIAG_SQLSTATE));
    }
    show(pg_transaction_status($c), pg_parameter_status($c, "server_encoding"));
    pg_close($c);
};

$only = getenv("ONLY") ?: "";
foreach ($sections as $name => $section) {
    if ($only !== "" && !str_contains($name, $only)) {
        continue;
    }
    echo "== $name\n";
    try {
        $section();
    } catch (Throwable $e) {
        show("!! ended at line", $e->getLine(), $e->getMessage());
    }
}
