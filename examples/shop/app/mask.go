package main

import (
	"context"
	"database/sql"
	"log/slog"
)

// maskOrders replaces customers by numbers, in the order in which they first came. Who was the same stays the same, so
// that what one tries on the copy behaves as on the original. Safe to repeat.
const maskOrders = `
UPDATE orders SET request_key = NULL, customer = 'customer ' || known.number
FROM (SELECT customer AS name, row_number() OVER (ORDER BY min(id)) AS number FROM orders GROUP BY customer) AS known
WHERE customer = known.name`

// mask takes the names out of a copy of the database, and returns how many orders it went over.
func mask(ctx context.Context, db *sql.DB) (int64, error) {
	done, err := db.ExecContext(ctx, maskOrders)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

func runMask(ctx context.Context, cfg config) error {
	db, err := reach(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	orders, err := mask(ctx, db)
	if err != nil {
		return err
	}
	slog.Info("customers are masked", "orders", orders)
	return nil
}
