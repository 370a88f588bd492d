package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered step of the schema. Steps are never edited once released: the
// database remembers their text and refuses another under the same number.
type migration struct {
	number int
	name   string
	text   string
	sum    string
}

// migrations returns the embedded steps in order. It panics on a file that is not numbered
// without gaps, which a test would have shown.
func migrations() []migration {
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		panic(err)
	}
	var all []migration
	for i, e := range entries {
		prefix, _, _ := strings.Cut(e.Name(), "_")
		number, err := strconv.Atoi(prefix)
		if err != nil || number != i+1 {
			panic("migrations are not numbered 0001, 0002, ...: " + e.Name())
		}
		text, err := migrationFiles.ReadFile("migrations/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{number, strings.TrimSuffix(e.Name(), ".sql"), string(text), hex.EncodeToString(sum[:])})
	}
	return all
}

// schemaVersion is the schema that this program needs: its last migration's number.
func schemaVersion() int { return len(migrations()) }

// migrate applies the steps that the database lacks, all in one transaction: the schema is
// either the old one or the new one. Two at once wait for each other. It returns the names of
// the steps it applied.
func migrate(ctx context.Context, db *sql.DB) ([]string, error) {
	var applied []string
	err := inTransaction(ctx, db, func(tx *sql.Tx) error {
		known, err := appliedSums(ctx, tx)
		if err != nil {
			return err
		}
		for _, m := range migrations() {
			sum, done := known[m.number]
			if done && sum != m.sum {
				return fmt.Errorf("migration %s differs from the one the database has; add a new one instead", m.name)
			}
			if done {
				continue
			}
			if err := apply(ctx, tx, m); err != nil {
				return err
			}
			applied = append(applied, m.name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

// migrationLock is the advisory lock of all who migrate this database; any number does that
// nobody else uses.
const migrationLock = 7305610

func appliedSums(ctx context.Context, tx *sql.Tx) (map[int]string, error) {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return nil, err
	}
	_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
		number integer PRIMARY KEY, name text NOT NULL, sum text NOT NULL,
		applied_at timestamptz NOT NULL DEFAULT now())`)
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT number, sum FROM schema_migrations")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sums := map[int]string{}
	for rows.Next() {
		var number int
		var sum string
		if err := rows.Scan(&number, &sum); err != nil {
			return nil, err
		}
		sums[number] = sum
	}
	return sums, rows.Err()
}

func apply(ctx context.Context, tx *sql.Tx, m migration) error {
	if _, err := tx.ExecContext(ctx, m.text); err != nil {
		return fmt.Errorf("migration %s: %w", m.name, err)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO schema_migrations (number, name, sum) VALUES ($1, $2, $3)", m.number, m.name, m.sum)
	return err
}

// schemaReady returns nil when the database has at least this program's schema. A newer one is
// fine: while an update rolls through, the old instances serve on the new schema.
func schemaReady(ctx context.Context, db *sql.DB) error {
	var have int
	err := db.QueryRowContext(ctx, "SELECT COALESCE(max(number), 0) FROM schema_migrations").Scan(&have)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if want := schemaVersion(); have < want {
		return fmt.Errorf("the schema is at %d, this program needs %d: run the migrate job", have, want)
	}
	return nil
}
