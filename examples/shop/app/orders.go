package main

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// product is one line of what is for sale. Stock plus everything ordered equals Received, always.
type product struct {
	SKU        string `json:"sku"`
	Title      string `json:"title"`
	PriceCents int    `json:"price_cents"`
	Stock      int    `json:"stock"`
	Received   int    `json:"received"`
}

// order is one row of the order book.
type order struct {
	ID         int64     `json:"id"`
	Customer   string    `json:"customer"`
	SKU        string    `json:"sku"`
	Quantity   int       `json:"quantity"`
	PriceCents int       `json:"price_cents"`
	TakenBy    string    `json:"taken_by"`
	TakenAt    time.Time `json:"taken_at"`
}

// orderRequest is what a customer sends. RequestKey, if set, makes repeating it harmless.
type orderRequest struct {
	RequestKey string `json:"request_key"`
	Customer   string `json:"customer"`
	SKU        string `json:"sku"`
	Quantity   int    `json:"quantity"`
}

// summary counts the whole book in one statement, so that its numbers belong to one moment.
type summary struct {
	Orders   int64 `json:"orders"`
	Ordered  int64 `json:"ordered"`
	Stock    int64 `json:"stock"`
	Received int64 `json:"received"`
	// Balanced says whether stock and orders account for everything received.
	Balanced bool `json:"balanced"`
}

var (
	errNoSuchProduct = errors.New("no such product")
	errOutOfStock    = errors.New("not enough in stock")
	errNoSuchOrder   = errors.New("no such order")
)

// bookLock makes orders commit one after another, so that their numbers ascend in the order in
// which they become visible: a feed that has seen number n never misses one below it.
const bookLock = 7305611

// takeOrder writes an order and takes its goods from the stock, both or neither. It returns the
// earlier order and false if the request's key was seen before. Errors: errNoSuchProduct,
// errOutOfStock.
func takeOrder(ctx context.Context, db *sql.DB, r orderRequest, takenBy string) (o order, fresh bool, err error) {
	err = inTransaction(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", bookLock); err != nil {
			return err
		}
		o, err = scanOrder(tx.QueryRowContext(ctx, selectOrder+" WHERE request_key = $1", r.RequestKey))
		if err == nil && r.RequestKey != "" {
			return nil
		}
		price, err := takeStock(ctx, tx, r)
		if err != nil {
			return err
		}
		fresh = true
		o, err = scanOrder(tx.QueryRowContext(ctx, `
			INSERT INTO orders (request_key, customer, sku, quantity, price_cents, taken_by)
			VALUES (NULLIF($1, ''), $2, $3, $4, $5, $6)
			RETURNING `+orderColumns, r.RequestKey, r.Customer, r.SKU, r.Quantity, price, takenBy))
		return err
	})
	return o, fresh, err
}

func takeStock(ctx context.Context, tx *sql.Tx, r orderRequest) (priceCents int, err error) {
	var stock int
	row := tx.QueryRowContext(ctx, "SELECT stock, price_cents FROM products WHERE sku = $1 FOR UPDATE", r.SKU)
	if err := row.Scan(&stock, &priceCents); errors.Is(err, sql.ErrNoRows) {
		return 0, errNoSuchProduct
	} else if err != nil {
		return 0, err
	}
	if stock < r.Quantity {
		return 0, errOutOfStock
	}
	_, err = tx.ExecContext(ctx, "UPDATE products SET stock = stock - $2 WHERE sku = $1", r.SKU, r.Quantity)
	return priceCents, err
}

const (
	orderColumns = "id, customer, sku, quantity, price_cents, taken_by, taken_at"
	selectOrder  = "SELECT " + orderColumns + " FROM orders"
)

func scanOrder(row interface{ Scan(...any) error }) (o order, err error) {
	err = row.Scan(&o.ID, &o.Customer, &o.SKU, &o.Quantity, &o.PriceCents, &o.TakenBy, &o.TakenAt)
	return o, err
}

func orderByID(ctx context.Context, db *sql.DB, id int64) (order, error) {
	o, err := scanOrder(db.QueryRowContext(ctx, selectOrder+" WHERE id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return o, errNoSuchOrder
	}
	return o, err
}

// ordersAfter returns up to limit orders with a number above id, oldest first.
func ordersAfter(ctx context.Context, db *sql.DB, id int64, limit int) ([]order, error) {
	return queryOrders(ctx, db, selectOrder+" WHERE id > $1 ORDER BY id LIMIT $2", id, limit)
}

// latestOrders returns the last limit orders, newest first.
func latestOrders(ctx context.Context, db *sql.DB, limit int) ([]order, error) {
	return queryOrders(ctx, db, selectOrder+" ORDER BY id DESC LIMIT $1", limit)
}

func queryOrders(ctx context.Context, db *sql.DB, query string, args ...any) ([]order, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	orders := []order{}
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

func allProducts(ctx context.Context, db *sql.DB) ([]product, error) {
	rows, err := db.QueryContext(ctx, "SELECT sku, title, price_cents, stock, received FROM products ORDER BY sku")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	products := []product{}
	for rows.Next() {
		var p product
		if err := rows.Scan(&p.SKU, &p.Title, &p.PriceCents, &p.Stock, &p.Received); err != nil {
			return nil, err
		}
		products = append(products, p)
	}
	return products, rows.Err()
}

func sumUp(ctx context.Context, db *sql.DB) (s summary, err error) {
	err = db.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM orders), (SELECT COALESCE(sum(quantity), 0) FROM orders),
		       COALESCE(sum(stock), 0), COALESCE(sum(received), 0) FROM products`).
		Scan(&s.Orders, &s.Ordered, &s.Stock, &s.Received)
	s.Balanced = s.Stock+s.Ordered == s.Received
	return s, err
}
