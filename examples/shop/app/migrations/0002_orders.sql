-- The order book. request_key makes a repeated request find its first order again.
CREATE TABLE orders (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    request_key text        UNIQUE,
    customer    text        NOT NULL CHECK (customer <> ''),
    sku         text        NOT NULL REFERENCES products (sku),
    quantity    integer     NOT NULL CHECK (quantity > 0),
    price_cents integer     NOT NULL,
    taken_by    text        NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now()
);
