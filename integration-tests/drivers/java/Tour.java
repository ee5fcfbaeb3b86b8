import java.io.*;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.*;
import org.postgresql.util.*;

/** JDBC by pgjdbc: server-side prepared statements, fetch size, batches, generated keys, COPY, large objects. */
public class Tour {
    interface Work { Object run() throws Exception; }
    interface Section { void run() throws Exception; }

    static final String ONLY = Optional.ofNullable(System.getenv("ONLY")).orElse("");

    static String url(String more) {
        return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
            + "?user=" + System.getenv("PGUSER") + "&password=" + System.getenv("PGPASSWORD") + "&sslmode=disable&loginTimeout=20" + more;
    }

    static Connection connect(String... more) throws SQLException {
        return DriverManager.getConnection(url(String.join("", more)));
    }

    static void show(Object... values) {
        StringJoiner line = new StringJoiner(" ");
        for (Object v : values) line.add(String.valueOf(v));
        System.out.println("   " + line);
    }

    static String said(Throwable e) {
        if (e instanceof PSQLException p && p.getServerErrorMessage() != null) {
            ServerErrorMessage m = p.getServerErrorMessage();
            return String.join(" | ", "" + m.getSQLState(), "" + m.getSeverity(), "" + m.getMessage(), "" + m.getDetail(), "" + m.getHint(),
                "" + m.getConstraint(), "" + m.getTable(), "" + m.getPosition());
        }
        return e.getClass().getSimpleName() + " " + (e instanceof SQLException s ? s.getSQLState() + " " : "") + e.getMessage();
    }

    static void attempt(String what, Work work) {
        try {
            show(what, work.run());
        } catch (Exception e) {
            show(what, said(e));
        }
    }

    static int sqlUpdate(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) { return s.executeUpdate(sql); }
    }

    static List<String> rows(ResultSet r) throws SQLException {
        List<String> rows = new ArrayList<>();
        int columns = r.getMetaData().getColumnCount();
        while (r.next()) {
            StringJoiner row = new StringJoiner(",", "(", ")");
            for (int i = 1; i <= columns; i++) row.add(r.getMetaData().getColumnType(i) == Types.BINARY ? Arrays.toString(r.getBytes(i)) : r.getString(i));
            rows.add(row.toString());
        }
        return rows;
    }

    static List<String> query(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            return rows(s.executeQuery());
        }
    }

    static void connecting() throws Exception {
        try (Connection c = connect("&ApplicationName=jdbc%20tour&currentSchema=one,public&options=-c%20statement_timeout=54321%20-c%20geqo=off")) {
            for (String name : List.of("application_name", "search_path", "statement_timeout", "geqo", "extra_float_digits", "DateStyle", "client_encoding"))
                show(name, query(c, "SHOW " + name));
            show(c.getMetaData().getDatabaseMajorVersion(), c.getSchema(), c.isValid(5), c.getTransactionIsolation());
            c.setClientInfo("ApplicationName", "renamed");
            show(query(c, "SHOW application_name"), c.getClientInfo("ApplicationName"));
            c.setSchema("public");
            show(query(c, "SHOW search_path"));
        }
        attempt("wrong password", () -> DriverManager.getConnection(url("").replaceAll("password=[^&]*", "password=wrong")));
    }

    static void types() throws Exception {
        try (Connection c = connect()) {
            sqlUpdate(c, "CREATE TYPE mood AS ENUM ('sad', 'ok')");
            sqlUpdate(c, "CREATE TYPE pair AS (a int, b text)");
            sqlUpdate(c, "CREATE TABLE kinds (id serial PRIMARY KEY, i2 int2, i4 int, i8 int8, f4 real, f8 float8, n numeric, t text, b bytea, bo bool, d date,"
                + " ts timestamp, tz timestamptz, tm time, u uuid, jb jsonb, ia int[], ta text[], m mood, p pair)");
            String columns = "i2,i4,i8,f4,f8,n,t,b,bo,d,ts,tz,tm,u,jb,ia,ta,m,p";
            String insert = "INSERT INTO kinds (" + columns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?::jsonb,?,?,?::mood,?::pair)";
            for (int turn = 0; turn < 8; turn++) {
                try (PreparedStatement s = c.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
                    int i = 1;
                    s.setShort(i++, (short) turn); s.setInt(i++, -2); s.setLong(i++, 1L << 60); s.setFloat(i++, 1.5f); s.setDouble(i++, 2.25);
                    s.setBigDecimal(i++, new BigDecimal("12345.67890")); s.setString(i++, "naïve\n"); s.setBytes(i++, new byte[] {0, 1, -1}); s.setBoolean(i++, true);
                    s.setObject(i++, LocalDate.of(2024, 2, 29)); s.setObject(i++, LocalDateTime.of(2024, 1, 2, 3, 4, 5, 678000));
                    s.setObject(i++, OffsetDateTime.of(2024, 1, 2, 3, 4, 5, 0, ZoneOffset.UTC)); s.setObject(i++, LocalTime.of(1, 2, 3));
                    s.setObject(i++, new UUID(0, 5)); s.setString(i++, "{\"a\": 1}"); s.setArray(i++, c.createArrayOf("int4", new Integer[] {1, null, 3}));
                    s.setArray(i++, c.createArrayOf("text", new String[] {"a", null, "c\"d"})); s.setString(i++, "ok"); s.setString(i++, "(1,two)");
                    s.executeUpdate();
                    try (ResultSet keys = s.getGeneratedKeys()) { show(rows(keys).get(0).substring(0, 8)); }
                }
            }
            try (PreparedStatement s = c.prepareStatement("INSERT INTO kinds (" + columns + ") VALUES (NULL" + ",NULL".repeat(18) + ")")) { show(s.executeUpdate()); }
            for (int turn = 0; turn < 7; turn++) {
                try (PreparedStatement s = c.prepareStatement("SELECT * FROM kinds WHERE id IN (?, ?) ORDER BY id")) {
                    s.setInt(1, 1);
                    s.setInt(2, 9);
                    List<String> rows = rows(s.executeQuery());
                    if (turn % 3 == 0) show(turn, rows);
                }
            }
            try (ResultSet r = c.getMetaData().getColumns(null, "public", "kinds", "%")) { while (r.next()) show(r.getString("COLUMN_NAME"), r.getString("TYPE_NAME"), r.getInt("DATA_TYPE")); }
            try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "kinds")) { show(rows(r)); }
            attempt("cast", () -> query(c, "SELECT ?::int", "x"));
            attempt("enum", () -> query(c, "SELECT ?::mood", "angry"));
            sqlUpdate(c, "SET TimeZone TO 'Asia/Tokyo'");
            show(query(c, "SELECT tz::text FROM kinds WHERE id = 1"));
        }
    }

    static void prepared() throws Exception {
        try (Connection c = connect("&prepareThreshold=3"); Connection other = connect()) {
            sqlUpdate(c, "CREATE TABLE numbers (id int PRIMARY KEY, v text)");
            sqlUpdate(c, "INSERT INTO numbers SELECT i, 'v' || i FROM generate_series(0, 99) i");
            try (PreparedStatement s = c.prepareStatement("SELECT * FROM numbers WHERE id = ?")) {
                for (int i = 0; i < 8; i++) {
                    s.setInt(1, i);
                    show(rows(s.executeQuery()), s.unwrap(PGStatement.class).isUseServerPrepare());
                }
                sqlUpdate(other, "ALTER TABLE numbers ADD COLUMN more int DEFAULT 5");
                for (int i = 0; i < 3; i++) {
                    s.setInt(1, i);
                    attempt("after ALTER by another", () -> rows(s.executeQuery()));
                }
                sqlUpdate(other, "ALTER TABLE numbers ALTER COLUMN v TYPE varchar(30)");
                c.setAutoCommit(false);
                s.setInt(1, 4);
                attempt("after ALTER TYPE, in a transaction", () -> rows(s.executeQuery()));
                attempt("and then", () -> rows(s.executeQuery()));
                c.rollback();
                attempt("after the rollback", () -> rows(s.executeQuery()));
                c.rollback();
                c.setAutoCommit(true);
                // The driver sends another type: it prepares again.
                s.setObject(1, 5L, Types.BIGINT);
                attempt("bigint", () -> rows(s.executeQuery()));
                s.setNull(1, Types.INTEGER);
                attempt("null", () -> rows(s.executeQuery()));
            }
            sqlUpdate(c, "DEALLOCATE ALL");
            attempt("after DEALLOCATE ALL", () -> query(c, "SELECT v FROM numbers WHERE id = ?", 1));
            for (int i = 0; i < 600; i++) query(c, "SELECT " + i % 300 + " + ?", i);
            show(query(c, "SELECT count(*) FROM numbers"));
        }
        try (Connection c = connect("&preferQueryMode=simple")) { show(query(c, "SELECT v FROM numbers WHERE id = ?", 7)); }
        try (Connection c = connect("&preferQueryMode=extendedCacheEverything&prepareThreshold=-1")) {
            for (int i = 0; i < 4; i++) show(query(c, "SELECT v FROM numbers WHERE id = ?", i));
        }
    }

    static void batches() throws Exception {
        for (String mode : List.of("", "&reWriteBatchedInserts=true")) {
            try (Connection c = connect(mode)) {
                sqlUpdate(c, "DROP TABLE IF EXISTS batched");
                sqlUpdate(c, "CREATE TABLE batched (id int PRIMARY KEY, v text)");
                try (PreparedStatement s = c.prepareStatement("INSERT INTO batched VALUES (?, ?)")) {
                    for (int i = 0; i < 3000; i++) { s.setInt(1, i); s.setString(2, "v" + i); s.addBatch(); }
                    int[] counts = s.executeBatch();
                    show(counts.length, counts[0], counts[2999]);
                    for (int i = 5000; i < 5010; i++) { s.setInt(1, i == 5007 ? 1 : i); s.setString(2, "x"); s.addBatch(); }
                    try {
                        s.executeBatch();
                    } catch (BatchUpdateException e) {
                        show(e.getSQLState(), e.getUpdateCounts().length, said(e.getNextException()));
                    }
                }
                show(query(c, "SELECT count(*) FROM batched"));
                c.setAutoCommit(false);
                try (PreparedStatement s = c.prepareStatement("UPDATE batched SET v = ? WHERE id = ?", new String[] {"id"})) {
                    for (int i = 0; i < 500; i++) { s.setString(1, "w"); s.setInt(2, i); s.addBatch(); }
                    show(s.executeBatch().length);
                    try (ResultSet keys = s.getGeneratedKeys()) { show(rows(keys).size()); }
                }
                c.commit();
                try (Statement s = c.createStatement()) {
                    s.addBatch("INSERT INTO batched VALUES (9000)");
                    s.addBatch("UPDATE batched SET v = 'z' WHERE id < 10");
                    s.addBatch("DELETE FROM batched WHERE id > 2000");
                    show(Arrays.toString(s.executeBatch()));
                    show(s.execute("SELECT 1; UPDATE batched SET v = 'y' WHERE id = 1; SELECT 2, 3"), rows(s.getResultSet()), s.getMoreResults(), s.getUpdateCount(), s.getMoreResults(), rows(s.getResultSet()));
                }
                c.rollback();
                show(query(c, "SELECT count(*), count(DISTINCT v) FROM batched"));
                c.rollback();
            }
        }
    }

    static void transactions() throws Exception {
        try (Connection c = connect(); Connection auto = connect("&autosave=always")) {
            sqlUpdate(c, "CREATE TABLE accounts (id int PRIMARY KEY, n int CHECK (n >= 0))");
            c.setAutoCommit(false);
            sqlUpdate(c, "INSERT INTO accounts VALUES (1, 10)");
            Savepoint s = c.setSavepoint("here");
            attempt("check", () -> sqlUpdate(c, "UPDATE accounts SET n = -1"));
            attempt("aborted", () -> query(c, "SELECT 1"));
            c.rollback(s);
            show(query(c, "SELECT * FROM accounts"));
            c.commit();
            attempt("fails", () -> query(c, "SELECT 1/0"));
            attempt("commit of a failed one", () -> { c.commit(); return "committed"; });
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            c.setReadOnly(true);
            show(query(c, "SHOW transaction_isolation"), query(c, "SHOW transaction_read_only"));
            attempt("read only", () -> sqlUpdate(c, "DELETE FROM accounts"));
            c.rollback();
            c.setReadOnly(false);
            c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            auto.setAutoCommit(false);
            sqlUpdate(auto, "UPDATE accounts SET n = 11");
            attempt("autosave", () -> query(auto, "SELECT 1/0"));
            show(query(auto, "SELECT * FROM accounts"));
            auto.commit();
            show(query(c, "SELECT * FROM accounts"));
            c.rollback();
        }
    }

    static void cursors() throws Exception {
        try (Connection c = connect()) {
            sqlUpdate(c, "CREATE TABLE many AS SELECT i AS id, repeat('x', i % 50) AS v FROM generate_series(1, 5000) i");
            c.setAutoCommit(false);
            try (PreparedStatement s = c.prepareStatement("SELECT id FROM many WHERE id > ? ORDER BY id"); Statement inner = c.createStatement()) {
                s.setFetchSize(100);
                for (int turn = 0; turn < 7; turn++) {
                    s.setInt(1, turn);
                    long sum = 0;
                    ResultSet r = s.executeQuery();
                    while (r.next()) {
                        sum += r.getInt(1);
                        if (r.getInt(1) % 1000 == 0) rows(inner.executeQuery("SELECT 1"));
                    }
                    show(sum);
                }
                s.setMaxRows(150);
                show(rows(s.executeQuery()).size());
                s.setMaxRows(0);
                ResultSet half = s.executeQuery();
                half.next();
                half.close();
                ResultSet lost = s.executeQuery();
                lost.next();
                c.commit();
                attempt("after commit", () -> { int n = 1; while (lost.next()) n++; return n; });
                c.rollback();
            }
            try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                sqlUpdate(c, "ALTER TABLE many ADD PRIMARY KEY (id)");
                ResultSet r = s.executeQuery("SELECT id, v FROM many WHERE id < 10 ORDER BY id");
                r.absolute(5);
                r.updateString(2, "updated");
                r.updateRow();
                r.last();
                show(r.getRow(), query(c, "SELECT v FROM many WHERE id = 5"));
            }
            sqlUpdate(c, "CREATE FUNCTION refs() RETURNS refcursor AS $$ DECLARE r refcursor := 'held'; BEGIN OPEN r FOR SELECT id FROM many ORDER BY id; RETURN r; END $$ LANGUAGE plpgsql");
            try (CallableStatement s = c.prepareCall("{ ? = call refs() }")) {
                s.registerOutParameter(1, Types.REF_CURSOR);
                s.execute();
                ResultSet r = (ResultSet) s.getObject(1);
                int n = 0;
                while (r.next()) n++;
                show(n);
            }
            c.commit();
            try (Statement s = c.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
                s.setFetchSize(10);
                ResultSet r = s.executeQuery("SELECT id FROM many ORDER BY id LIMIT 35");
                int n = 0;
                while (r.next()) { n++; if (n == 15) c.commit(); }
                show(n);
            }
            c.rollback();
        }
    }

    static void copying() throws Exception {
        try (Connection c = connect()) {
            sqlUpdate(c, "CREATE TABLE copied (id int PRIMARY KEY, v text)");
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 20000; i++) lines.append(i).append("\tline ").append(i).append('\n');
            show(copy.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            show(copy.copyOut("COPY copied TO STDOUT (FORMAT csv)", out), out.size());
            attempt("duplicate", () -> copy.copyIn("COPY copied FROM STDIN", new StringReader("1\tx\n")));
            attempt("failing reader", () -> copy.copyIn("COPY copied FROM STDIN", new InputStream() { public int read() throws IOException { throw new IOException("no more"); } }));
            var half = copy.copyOut("COPY copied TO STDOUT");
            show(new String(half.readFromCopy(), StandardCharsets.UTF_8).trim());
            while (half.readFromCopy() != null) { }
            show(half.getHandledRowCount());
            var cancelled = copy.copyIn("COPY copied FROM STDIN");
            byte[] line = "90000\tx\n".getBytes();
            cancelled.writeToCopy(line, 0, line.length);
            cancelled.cancelCopy();
            show(query(c, "SELECT count(*) FROM copied"));
            c.setAutoCommit(false);
            LargeObjectManager objects = c.unwrap(PGConnection.class).getLargeObjectAPI();
            long id = objects.createLO();
            try (LargeObject object = objects.open(id, LargeObjectManager.WRITE)) { object.write(new byte[300_000]); object.write("end".getBytes()); }
            try (LargeObject object = objects.open(id, LargeObjectManager.READ)) { object.seek(299_998); show(object.size64(), Arrays.toString(object.read(10))); }
            objects.delete(id);
            attempt("deleted", () -> { try { return objects.open(id, LargeObjectManager.READ).size(); } catch (SQLException e) { return e.getSQLState(); } });
            c.rollback();
        }
    }

    static void notifications() throws Exception {
        try (Connection c = connect(); Connection speaker = connect()) {
            sqlUpdate(c, "LISTEN jdbc_news");
            for (int i = 0; i < 3; i++) query(speaker, "SELECT pg_notify('jdbc_news', ?)", "n" + i);
            List<String> heard = new ArrayList<>();
            for (int i = 0; heard.size() < 3 && i < 50; i++) {
                PGNotification[] some = c.unwrap(PGConnection.class).getNotifications(200);
                if (some != null) for (PGNotification n : some) heard.add(n.getName() + "=" + n.getParameter());
            }
            show(heard);
            try (Statement s = c.createStatement()) {
                s.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
                for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) show(w.getSQLState(), w.getMessage());
            }
            sqlUpdate(c, "UNLISTEN *");
        }
    }

    static void cancelling() throws Exception {
        try (Connection c = connect(); Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            attempt("setQueryTimeout", () -> rows(s.executeQuery("SELECT pg_sleep(20)")));
            s.setQueryTimeout(0);
            ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
            timer.schedule(() -> { try { s.cancel(); } catch (SQLException e) { show(said(e)); } }, 300, TimeUnit.MILLISECONDS);
            attempt("cancel", () -> rows(s.executeQuery("SELECT pg_sleep(20)")));
            timer.shutdown();
            show(query(c, "SELECT 1"));
        }
    }

    static void manyClients() throws Exception {
        try (Connection c = connect()) {
            sqlUpdate(c, "CREATE TABLE shared (id int PRIMARY KEY, n int)");
            sqlUpdate(c, "INSERT INTO shared SELECT i, 0 FROM generate_series(0, 9) i");
        }
        ExecutorService threads = Executors.newFixedThreadPool(10);
        List<Future<String>> all = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            int number = n;
            all.add(threads.submit(() -> {
                Set<String> seen = new TreeSet<>();
                try (Connection c = connect("&prepareThreshold=2&ApplicationName=w" + number)) {
                    for (int turn = 0; turn < 30; turn++) {
                        c.setAutoCommit(false);
                        try (PreparedStatement s = c.prepareStatement("UPDATE shared SET n = n + 1 WHERE id = ?")) { s.setInt(1, number); s.executeUpdate(); }
                        seen.addAll(query(c, "SELECT current_setting('application_name') || ?", "!"));
                        if (turn % 3 == 0) c.rollback(); else c.commit();
                        c.setAutoCommit(true);
                        seen.addAll(query(c, "SELECT current_setting('application_name') || ?", "?"));
                    }
                }
                return seen.toString();
            }));
        }
        for (Future<String> one : all) show(one.get());
        threads.shutdown();
        try (Connection c = connect()) { show(query(c, "SELECT * FROM shared ORDER BY id")); }
    }

    static void large() throws Exception {
        try (Connection c = connect()) {
            show(query(c, "SELECT i, repeat('y', 1000) FROM generate_series(1, 20000) i").size());
            show(query(c, "SELECT length(? || 'a')", "z".repeat(20_000_000)));
            Integer[] values = new Integer[30000];
            for (int i = 0; i < values.length; i++) values[i] = i;
            show(query(c, "SELECT count(*), sum(x) FROM (VALUES (?::int)" + ",(?::int)".repeat(values.length - 1) + ") v(x)", (Object[]) values));
        }
    }

    public static void main(String[] arguments) throws Exception {
        TimeZone.setDefault(TimeZone.getTimeZone("Europe/Vienna"));
        Locale.setDefault(Locale.ENGLISH);
        Map<String, Section> sections = new LinkedHashMap<>();
        sections.put("connecting", Tour::connecting);
        sections.put("types", Tour::types);
        sections.put("prepared", Tour::prepared);
        sections.put("batches", Tour::batches);
        sections.put("transactions", Tour::transactions);
        sections.put("cursors", Tour::cursors);
        sections.put("copying", Tour::copying);
        sections.put("notifications", Tour::notifications);
        sections.put("cancelling", Tour::cancelling);
        sections.put("manyClients", Tour::manyClients);
        sections.put("large", Tour::large);
        for (var section : sections.entrySet()) {
            if (!section.getKey().contains(ONLY)) continue;
            System.out.println("== " + section.getKey());
            try {
                section.getValue().run();
            } catch (Exception e) {
                show("!! ended at", Arrays.stream(e.getStackTrace()).filter(f -> f.getClassName().equals("Tour")).reduce((a, b) -> b.getLineNumber() > 0 && b.getMethodName().equals(section.getKey()) ? b : a).orElse(null), said(e));
            }
        }
        System.exit(0);
    }
}
