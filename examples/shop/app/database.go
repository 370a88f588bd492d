package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// openDatabase returns a pool that connects when it is first used. The name is looked up and the
// password read for every new connection, so that neither a moved database nor a changed
// password asks for a restart.
func openDatabase(cfg config) *sql.DB {
	d := cfg.Database
	// The empty string gives the driver's defaults, and cannot fail; what it takes from the
	// environment is overwritten here.
	conn, err := pgx.ParseConfig("sslmode=disable connect_timeout=3")
	if err != nil {
		panic(err)
	}
	conn.Host, conn.Port, conn.User, conn.Database = d.Host, d.Port, d.User, d.Name
	conn.Fallbacks = nil
	conn.RuntimeParams["application_name"] = "shop-app " + version
	readPassword := func(_ context.Context, c *pgx.ConnConfig) error {
		text, err := os.ReadFile(d.PasswordFile)
		if err != nil {
			return fmt.Errorf("database password: %w", err)
		}
		c.Password = strings.TrimRight(string(text), "\n")
		return nil
	}
	db := stdlib.OpenDB(*conn, stdlib.OptionBeforeConnect(readPassword), stdlib.OptionShouldPing(mayBeOld))
	db.SetMaxOpenConns(d.MaxConnections)
	db.SetMaxIdleConns(d.MaxConnections)
	db.SetConnMaxIdleTime(time.Minute)
	return db
}

// mayBeOld has a connection asked before it is used again that may be of a database that moved meanwhile. The driver's own
// patience is a second, and a move may take less: the old database's farewell would be the answer to the next request.
func mayBeOld(_ context.Context, c stdlib.ShouldPingParams) bool {
	return c.IdleDuration > 50*time.Millisecond
}

// waitForDatabase returns nil once the database answers, or why it last did not when ctx ends.
func waitForDatabase(ctx context.Context, db *sql.DB) error {
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the database does not answer: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// inTransaction runs work in one transaction, which is rolled back if work fails.
func inTransaction(ctx context.Context, db *sql.DB, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// After a commit this does nothing.
	defer tx.Rollback()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}
