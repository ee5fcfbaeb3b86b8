/* libpq alone, in C: pipeline mode with errors inside, single rows, COPY, cancel, large objects. */

#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *connection;

static void show_result(PGresult *result)
{
    printf("   %s", PQresStatus(PQresultStatus(result)));
    if (PQresultErrorField(result, PG_DIAG_SQLSTATE))
        printf(" %s %s", PQresultErrorField(result, PG_DIAG_SQLSTATE), PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    if (*PQcmdStatus(result))
        printf(" [%s]", PQcmdStatus(result));
    for (int row = 0; row < PQntuples(result); row++) {
        printf(" (");
        for (int column = 0; column < PQnfields(result); column++)
            printf("%s%s", column ? ", " : "", PQgetisnull(result, row, column) ? "null" : PQgetvalue(result, row, column));
        printf(")");
    }
    printf("\n");
}

/* Everything up to so many Sync. A NULL between two statements is said as well: programs count on it. */
static void read_pipeline(int syncs)
{
    int nulls = 0;
    while (syncs > 0) {
        PGresult *result = PQgetResult(connection);
        if (result == NULL) {
            if (++nulls > 1) {
                printf("   nothing more comes\n");
                return;
            }
            printf("   -\n");
            continue;
        }
        nulls = 0;
        show_result(result);
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
            syncs--;
        PQclear(result);
    }
}

static void run(const char *sql)
{
    PGresult *result = PQexec(connection, sql);
    show_result(result);
    PQclear(result);
}

static void query(const char *sql)
{
    if (!PQsendQueryParams(connection, sql, 0, NULL, NULL, NULL, NULL, 0))
        printf("   not sent: %s", PQerrorMessage(connection));
}

static void section(const char *name)
{
    printf("== %s\n", name);
    fflush(stdout);
}

static void pipelines(void)
{
    section("pipelines");
    run("CREATE TABLE p (a int PRIMARY KEY, b text)");
    PQenterPipelineMode(connection);
    query("SELECT 1");
    query("SELECT 'x', 2");
    PQpipelineSync(connection);
    read_pipeline(1);

    query("INSERT INTO p VALUES (1, 'one')");
    query("INSERT INTO p VALUES (1, 'again')");
    query("SELECT 'skipped'");
    PQpipelineSync(connection);
    query("SELECT count(*) FROM p");
    PQpipelineSync(connection);
    read_pipeline(2);

    query("BEGIN");
    query("INSERT INTO p VALUES (2, 'two')");
    PQpipelineSync(connection);
    query("SELECT 1/0");
    PQpipelineSync(connection);
    query("SELECT 'in a failed block'");
    PQpipelineSync(connection);
    query("ROLLBACK");
    query("SELECT count(*) FROM p");
    PQpipelineSync(connection);
    read_pipeline(4);

    PQsendPrepare(connection, "s", "INSERT INTO p VALUES ($1, $2) RETURNING a * 2", 0, NULL);
    PQsendDescribePrepared(connection, "s");
    PQpipelineSync(connection);
    for (int n = 10; n < 60; n++) {
        char number[16];
        const char *values[2] = {number, "many"};
        snprintf(number, sizeof number, "%d", n);
        PQsendQueryPrepared(connection, "s", 2, values, NULL, NULL, 0);
    }
    PQpipelineSync(connection);
    read_pipeline(2);

    /* Answers asked for before the batch has ended. */
    query("SELECT 'flushed'");
    PQsendFlushRequest(connection);
    PQflush(connection);
    PGresult *result = PQgetResult(connection);
    show_result(result);
    PQclear(result);
    PQgetResult(connection);
    PQpipelineSync(connection);
    read_pipeline(1);
    PQexitPipelineMode(connection);
    run("SELECT count(*), sum(a) FROM p");
}

static void many(void)
{
    section("many");
    PQenterPipelineMode(connection);
    for (int batch = 0; batch < 40; batch++) {
        for (int n = 0; n < 10; n++) {
            char sql[100];
            snprintf(sql, sizeof sql, "SELECT %d / %d", batch * 10 + n, (batch + n) % 13);
            query(sql);
        }
        PQpipelineSync(connection);
    }
    read_pipeline(40);
    PQexitPipelineMode(connection);
}

static void single_rows(void)
{
    section("single_rows");
    PQsendQuery(connection, "SELECT n, 10 / (n - 4) FROM generate_series(1, 6) n");
    PQsetSingleRowMode(connection);
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
    PQsendQuery(connection, "SELECT 1; SELECT 2 WHERE false; SELECT 3/0; SELECT 4");
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
}

static void copying(void)
{
    section("copying");
    run("CREATE TABLE c (a int, b text)");
    PQclear(PQexec(connection, "COPY c FROM STDIN"));
    for (int n = 0; n < 3000; n++) {
        char line[64];
        int length = snprintf(line, sizeof line, "%d\trow %d\n", n, n);
        PQputCopyData(connection, line, length);
    }
    PQputCopyEnd(connection, NULL);
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
    PQclear(PQexec(connection, "COPY c FROM STDIN"));
    PQputCopyData(connection, "1\tx\n", 4);
    PQputCopyEnd(connection, "changed my mind");
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
    PQclear(PQexec(connection, "COPY (SELECT * FROM c ORDER BY a LIMIT 3) TO STDOUT"));
    char *line;
    while (PQgetCopyData(connection, &line, 0) > 0) {
        printf("   %s", line);
        PQfreemem(line);
    }
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
    run("SELECT count(*), sum(a) FROM c");
}

static void cancelling(void)
{
    section("cancelling");
    char why[256];
    PGcancel *cancel = PQgetCancel(connection);
    PQsendQuery(connection, "SELECT pg_sleep(30)");
    /* Until the statement runs. */
    PGconn *other = PQconnectdb("");
    for (int n = 0; n < 200; n++) {
        PGresult *running = PQexec(other, "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'");
        int there = PQntuples(running);
        PQclear(running);
        if (there)
            break;
    }
    PQfinish(other);
    printf("   cancel %d\n", PQcancel(cancel, why, sizeof why));
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL) {
        show_result(result);
        PQclear(result);
    }
    PQfreeCancel(cancel);
    run("SELECT 'goes on'");
}

static void large_objects(void)
{
    section("large_objects");
    run("BEGIN");
    Oid object = lo_creat(connection, INV_READ | INV_WRITE);
    int fd = lo_open(connection, object, INV_READ | INV_WRITE);
    char text[20000];
    memset(text, 'x', sizeof text);
    printf("   written %d\n", lo_write(connection, fd, text, sizeof text));
    printf("   at %d\n", lo_lseek(connection, fd, 100, SEEK_SET));
    printf("   read %d\n", lo_read(connection, fd, text, 50));
    printf("   closed %d\n", lo_close(connection, fd));
    printf("   gone %d\n", lo_unlink(connection, object));
    run("COMMIT");
}

int main(void)
{
    connection = PQconnectdb("application_name=pipeline connect_timeout=20");
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "!! %s", PQerrorMessage(connection));
        return 1;
    }
    pipelines();
    many();
    single_rows();
    copying();
    cancelling();
    large_objects();
    section("state");
    run("SHOW application_name");
    printf("   %d %s\n", PQtransactionStatus(connection), PQparameterStatus(connection, "application_name"));
    PQfinish(connection);
    return 0;
}
