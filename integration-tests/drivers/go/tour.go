// database/sql over lib/pq ("postgres") and over pgx ("pgx"): what applications do with them.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	_ "github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

var driver = os.Args[1]

func show(values ...interface{}) {
	fmt.Print("   ")
	fmt.Println(values...)
}

func open() *sql.DB {
	db, err := sql.Open(driver, "connect_timeout=20 sslmode=disable application_name=go")
	if err != nil {
		panic(err)
	}
	return db
}

// code is the SQLSTATE and the message, however the driver has them.
func code(err error) string {
	var ofPq *pq.Error
	var ofPgx *pgconn.PgError
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &ofPq):
		return string(ofPq.Code) + " " + ofPq.Message
	case errors.As(err, &ofPgx):
		return ofPgx.Code + " " + ofPgx.Message
	}
	return err.Error()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func one(db interface {
	QueryRow(string, ...interface{}) *sql.Row
}, query string, arguments ...interface{}) string {
	var value sql.NullString
	if err := db.QueryRow(query, arguments...).Scan(&value); err != nil {
		return code(err)
	}
	return value.String
}

func statements(db *sql.DB) {
	_, err := db.Exec("CREATE TABLE g (a int PRIMARY KEY, b text, c bytea, d timestamptz, e float8)")
	must(err)
	moment := time.Date(2024, 2, 29, 12, 34, 56, 789000000, time.UTC)
	for n := 0; n < 5; n++ {
		result, err := db.Exec("INSERT INTO g VALUES ($1, $2, $3, $4, $5)", n, fmt.Sprint("row ", n), []byte{0, 255, byte(n)}, moment, 1.5)
		must(err)
		count, _ := result.RowsAffected()
		show(count)
	}
	_, err = db.Exec("INSERT INTO g (a) VALUES ($1)", 1)
	show(code(err))
	rows, err := db.Query("SELECT a, b, c, d, e FROM g WHERE a >= $1 ORDER BY a", 2)
	must(err)
	for rows.Next() {
		var a int
		var b string
		var c []byte
		var d time.Time
		var e float64
		must(rows.Scan(&a, &b, &c, &d, &e))
		show(a, b, c, d.UTC(), e)
	}
	must(rows.Err())
	show(one(db, "SELECT 1/0"), one(db, "SELEC"), one(db, "SHOW application_name"))
	// Left before its end.
	rows, err = db.Query("SELECT generate_series(1, 100000)")
	must(err)
	rows.Next()
	must(rows.Close())
	show(one(db, "SELECT 'after'"))
}

func prepared(db *sql.DB) {
	statement, err := db.Prepare("SELECT $1::int + $2::int")
	must(err)
	var waiting sync.WaitGroup
	sums := make([]int, 8)
	for n := range sums {
		waiting.Add(1)
		go func(n int) {
			defer waiting.Done()
			for round := 0; round < 25; round++ {
				var sum int
				must(statement.QueryRow(n, round).Scan(&sum))
				sums[n] += sum
			}
		}(n)
	}
	waiting.Wait()
	show(sums)
	must(statement.Close())
	_, err = db.Prepare("SELECT nothing")
	show(code(err))
}

func transactions(db *sql.DB) {
	_, err := db.Exec("CREATE TABLE t (a int)")
	must(err)
	tx, err := db.Begin()
	must(err)
	_, err = tx.Exec("INSERT INTO t VALUES (1)")
	must(err)
	must(tx.Commit())
	tx, err = db.Begin()
	must(err)
	_, err = tx.Exec("INSERT INTO t VALUES (2)")
	must(err)
	must(tx.Rollback())
	tx, err = db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	show(one(tx, "SHOW transaction_isolation"), one(tx, "SHOW transaction_read_only"))
	_, err = tx.Exec("INSERT INTO t VALUES (3)")
	show(code(err))
	show(one(tx, "SELECT 1"))
	show(tx.Rollback())
	tx, err = db.Begin()
	must(err)
	_, err = tx.Exec("SAVEPOINT s")
	must(err)
	show(one(tx, "SELECT 1/0"))
	_, err = tx.Exec("ROLLBACK TO s")
	must(err)
	show(one(tx, "SELECT count(*) FROM t"))
	must(tx.Commit())
}

func cancelled(db *sql.DB) {
	patience, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	_, err := db.ExecContext(patience, "SELECT pg_sleep(20)")
	// pgx closes the connection and says so in words of its own.
	show(err != nil, strings.Contains(code(err), "57014") || strings.Contains(err.Error(), "context deadline exceeded") || strings.Contains(err.Error(), "timeout"))
	show(one(db, "SELECT 'goes on'"))
}

func crowd(db *sql.DB) {
	_, err := db.Exec("CREATE TABLE n (n int)")
	must(err)
	_, err = db.Exec("INSERT INTO n VALUES (0)")
	must(err)
	db.SetMaxOpenConns(10)
	var waiting sync.WaitGroup
	for worker := 0; worker < 20; worker++ {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for round := 0; round < 10; round++ {
				tx, err := db.Begin()
				must(err)
				_, err = tx.Exec("UPDATE n SET n = n + $1", 1)
				must(err)
				must(tx.Commit())
			}
		}()
	}
	waiting.Wait()
	show(one(db, "SELECT n FROM n"))
}

func copying(db *sql.DB) {
	if driver != "postgres" {
		return
	}
	_, err := db.Exec("CREATE TABLE c (a int, b text)")
	must(err)
	tx, err := db.Begin()
	must(err)
	into, err := tx.Prepare(pq.CopyIn("c", "a", "b"))
	must(err)
	for n := 0; n < 1000; n++ {
		_, err = into.Exec(n, fmt.Sprint("row ", n))
		must(err)
	}
	_, err = into.Exec()
	must(err)
	must(into.Close())
	must(tx.Commit())
	show(one(db, "SELECT count(*) FROM c"))
	listener := pq.NewListener("connect_timeout=20 sslmode=disable", time.Second, time.Second, nil)
	must(listener.Listen("go"))
	_, err = db.Exec("SELECT pg_notify('go', 'hello')")
	must(err)
	select {
	case heard := <-listener.Notify:
		show(heard.Channel, heard.Extra)
	case <-time.After(10 * time.Second):
		show("nothing was heard")
	}
	show(listener.Ping(), listener.Close())
}

func main() {
	sections := []struct {
		name string
		run  func(*sql.DB)
	}{{"statements", statements}, {"prepared", prepared}, {"transactions", transactions}, {"cancelled", cancelled}, {"crowd", crowd}, {"copying", copying}}
	for _, section := range sections {
		if !strings.Contains(section.name, os.Getenv("ONLY")) {
			continue
		}
		fmt.Println("==", section.name)
		func() {
			db := open()
			defer db.Close()
			defer func() {
				if problem := recover(); problem != nil {
					show("!! ended", problem)
				}
			}()
			section.run(db)
		}()
	}
}
